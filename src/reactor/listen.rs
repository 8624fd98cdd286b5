//! Listening sockets: one per core for each entry of `listeners`, so that every core accepts for itself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// What the kernel keeps for listeners and for the connections they accept; unset is the kernel's own choice.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
    pub backlog: i32,
    pub send_buffer_bytes: Option<usize>,
    pub receive_buffer_bytes: Option<usize>,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions { backlog: 1024, send_buffer_bytes: None, receive_buffer_bytes: None }
    }
}

/// A process killed a moment ago may hold its port until the kernel has taken its ring down.
const PORT_WAIT: Duration = Duration::from_secs(3);

/// Binds `address` once per core. With port 0 all cores share the port the kernel chose, which is returned.
pub fn listen(address: SocketAddr, cores: usize, options: SocketOptions) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    // Sockets that share a port share it with another broker too. A plain socket is refused then: ask it first. It never
    // listens: a client that came to it would be turned away when it closes.
    let deadline = Instant::now() + PORT_WAIT;
    while address.port() != 0 {
        match bound(address, false, options) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
    }
    let first = socket(address, options)?;
    let address = TcpListener::from(first.try_clone()?).local_addr()?;
    let mut sockets = vec![OwnedFd::from(first)];
    for _ in 1..cores {
        sockets.push(OwnedFd::from(socket(address, options)?));
    }
    Ok((address, sockets))
}

fn socket(address: SocketAddr, options: SocketOptions) -> io::Result<Socket> {
    let socket = bound(address, true, options)?;
    socket.listen(options.backlog)?;
    Ok(socket)
}

fn bound(address: SocketAddr, shared: bool, options: SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Accepted connections inherit these, which saves their system calls.
    socket.set_tcp_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(120)).with_interval(Duration::from_secs(30)).with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_cores_share_the_port_that_was_free() {
        let (address, sockets) =
            listen("127.0.0.1:0".parse().expect("an address"), 3, SocketOptions::default()).expect("loopback");
        assert_ne!(address.port(), 0);
        assert_eq!(sockets.len(), 3);
    }

    #[test]
    fn a_port_that_another_broker_serves_is_refused_though_both_would_share() {
        let (address, _sockets) =
            listen("127.0.0.1:0".parse().expect("an address"), 1, SocketOptions::default()).expect("loopback");
        let error = bound(address, false, SocketOptions::default()).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
