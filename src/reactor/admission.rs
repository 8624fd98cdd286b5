//! How many connections there may be, counted over all cores. Locked for a moment when a connection comes and when it goes.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::SockRef;

use crate::types::Map;

#[derive(Debug)]
pub struct Admission {
    /// `max.connections`, or what the process's descriptors allow.
    connections_max: usize,
    /// `max.connections.per.ip`
    per_address_max: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    connections: usize,
    /// Counted only where there is a limit.
    by_address: Map<IpAddr, usize>,
}

impl Admission {
    pub fn new(connections_max: usize, per_address_max: usize) -> Arc<Admission> {
        Arc::new(Admission { connections_max, per_address_max, inside: Mutex::default() })
    }

    /// None if there are too many already.
    pub fn admit(self: &Arc<Admission>, socket: &OwnedFd) -> Option<Admitted> {
        self.admit_from((self.per_address_max < usize::MAX).then(|| peer_of(socket)).flatten())
    }

    fn admit_from(self: &Arc<Admission>, address: Option<IpAddr>) -> Option<Admitted> {
        let mut inside = self.inside();
        if inside.connections >= self.connections_max {
            return None;
        }
        if let Some(address) = address {
            let count = inside.by_address.get(&address).copied().unwrap_or(0);
            if count >= self.per_address_max {
                return None;
            }
            inside.by_address.insert(address, count + 1);
        }
        inside.connections += 1;
        Some(Admitted { admission: self.clone(), address })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address at the other end; none if it is gone already.
pub fn peer_of(socket: &OwnedFd) -> Option<IpAddr> {
    SockRef::from(socket).peer_addr().ok()?.as_socket().map(|peer| peer.ip().to_canonical())
}

/// One connection's place; free again when dropped.
pub struct Admitted {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut inside = self.admission.inside();
        inside.connections -= 1;
        let Some(address) = self.address else { return };
        if let Some(count) = inside.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                inside.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_is_gone() {
        let admission = Admission::new(2, usize::MAX);
        let first = admission.admit_from(None).expect("room");
        let _second = admission.admit_from(None).expect("room");
        assert!(admission.admit_from(None).is_none());
        drop(first);
        assert!(admission.admit_from(None).is_some());
    }

    #[test]
    fn one_address_cannot_take_the_others_places_and_leaves_nothing_behind() {
        let admission = Admission::new(10, 1);
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().expect("an address"));
        let first = admission.admit_from(Some(one)).expect("room");
        assert!(admission.admit_from(Some(one)).is_none());
        assert!(admission.admit_from(Some(other)).is_some());
        drop(first);
        assert!(admission.inside().by_address.is_empty());
        assert!(admission.admit_from(Some(one)).is_some());
    }
}
