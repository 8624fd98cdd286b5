//! Where the broker listens and what clients are told of it: one address a listener that all cores share, or one for each
//! core. Owned by the start; decides nothing about who is told what.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

use super::StartProblem;
use crate::config::{BrokerConfig, Listener};
use crate::reactor::{SocketOptions, listen};

/// The sockets of one core, in the order of `listeners`.
pub type CoreListeners = Vec<OwnedFd>;

/// What a listener is bound to: one address that the cores share, or one for each core in their order.
pub type Bound = Vec<SocketAddr>;

/// Binds every listener once per core. Returns the addresses as they are now, by listener, and the sockets by core.
pub fn bind(config: &BrokerConfig, cores: usize) -> Result<(Vec<Bound>, Vec<CoreListeners>), StartProblem> {
    let options = socket_options(config);
    let mut all = Vec::new();
    let mut by_core: Vec<CoreListeners> = (0..cores).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let (mut bound, mut sockets) = (Vec::new(), Vec::new());
        let (addresses, sharing) = if config.gannet.listener_per_core { (cores, 1) } else { (1, cores) };
        for core in 0..addresses {
            let own = of_core(listener, core as u16);
            let (address, found) =
                bind_one(&own, sharing, options).map_err(|error| cannot_listen(&own, core, &error))?;
            bound.push(address);
            sockets.extend(found);
        }
        all.push(bound);
        by_core.iter_mut().zip(sockets).for_each(|(core, socket)| core.push(socket));
    }
    Ok((all, by_core))
}

/// What clients are told: `advertised.listeners`, or the listeners with what the system chose for them; one after the other
/// for each core that has its own.
pub fn advertise(config: &BrokerConfig, bound: &[Bound]) -> Vec<Listener> {
    let own_name = || Some(std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned());
    let bound_of = |name: &str| {
        let place = config.listeners.iter().position(|listener| listener.name == name);
        &bound[place.expect("only listeners are advertised")]
    };
    let advertised =
        if config.advertised_listeners.is_empty() { &config.listeners } else { &config.advertised_listeners };
    let of_cores = |listener: &Listener| {
        let mut listener = listener.clone();
        if listener.host.is_empty() || listener.host == "0.0.0.0" || listener.host == "::" {
            listener.host = own_name().unwrap_or_else(|| "localhost".into());
        }
        let own = |(core, at): (usize, &SocketAddr)| match of_core(&listener, core as u16) {
            Listener { port: 0, .. } => Listener { port: at.port(), ..listener.clone() },
            listener => listener,
        };
        bound_of(&listener.name).iter().enumerate().map(own).collect::<Vec<_>>()
    };
    advertised.iter().flat_map(of_cores).collect()
}

/// With `gannet.listener.per.core`: where this core listens. The settings were checked to leave room for all cores.
fn of_core(listener: &Listener, core: u16) -> Listener {
    let port = if listener.port == 0 { 0 } else { listener.port + core };
    Listener { port, ..listener.clone() }
}

fn cannot_listen(listener: &Listener, core: usize, error: &std::io::Error) -> StartProblem {
    let why = match core {
        0 => String::new(),
        core => format!(" for core {core} (gannet.listener.per.core)"),
    };
    StartProblem(format!(
        "cannot listen on {listener}{why}: {error}. Another process may hold the port (ss -ltnp shows which), or the \
         address is not of this machine (ip address shows them); see listeners"
    ))
}

fn bind_one(listener: &Listener, cores: usize, options: SocketOptions) -> std::io::Result<(SocketAddr, Vec<OwnedFd>)> {
    if listener.host.is_empty() {
        // Every interface, of both families where there are both.
        let v6 = listen(SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), listener.port), cores, options);
        return match v6 {
            Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                listen(SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), listener.port), cores, options)
            }
            outcome => outcome,
        };
    }
    let mut refusal = std::io::Error::other("the host has no address");
    for address in (listener.host.as_str(), listener.port).to_socket_addrs()? {
        match listen(address, cores, options) {
            Ok(bound) => return Ok(bound),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn socket_options(config: &BrokerConfig) -> SocketOptions {
    SocketOptions {
        backlog: config.socket_listen_backlog_size,
        // -1 leaves it to the kernel.
        send_buffer_bytes: usize::try_from(config.socket_send_buffer_bytes).ok(),
        receive_buffer_bytes: usize::try_from(config.socket_receive_buffer_bytes).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advertised_can_be_connected_to() {
        let config = BrokerConfig::default();
        let any = Listener { host: String::new(), port: 0, ..config.listeners[0].clone() };
        let config = BrokerConfig { listeners: vec![any], ..config };
        let advertised = advertise(&config, &[vec!["[::]:4321".parse().expect("an address")]]);
        assert_eq!(advertised[0].port, 4321);
        assert!(!advertised[0].host.is_empty() && advertised[0].host != "0.0.0.0");
    }

    #[test]
    fn each_core_has_an_address_of_its_own_where_clients_are_to_see_cores() {
        let mut config = BrokerConfig::default();
        config.gannet.listener_per_core = true;
        config.listeners[0].port = 0;
        let (bound, by_core) = bind(&config, 3).expect("loopback");
        assert_eq!(by_core.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        let told = |config: &BrokerConfig| -> Vec<(String, u16)> {
            advertise(config, &bound).into_iter().map(|listener| (listener.host, listener.port)).collect()
        };
        let ports: Vec<_> = bound[0].iter().map(|at| ("127.0.0.1".to_owned(), at.port())).collect();
        assert_eq!(told(&config), ports);
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
        config.advertised_listeners = vec![Listener { port: 19_000, ..config.listeners[0].clone() }];
        assert_eq!(told(&config).into_iter().map(|(_, port)| port).collect::<Vec<_>>(), [19_000, 19_001, 19_002]);
    }

    #[test]
    fn a_port_that_is_taken_is_told_with_its_listener() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = taken.local_addr().expect("bound").port();
        let listener = Listener { port, ..BrokerConfig::default().listeners[0].clone() };
        let config = BrokerConfig { listeners: vec![listener], ..BrokerConfig::default() };
        let problem = bind(&config, 1).expect_err("taken");
        assert!(problem.0.contains(&format!("PLAINTEXT://127.0.0.1:{port}")) && problem.0.contains("ss -ltnp"));
    }
}
