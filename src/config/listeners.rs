//! `listeners` and what belongs to them: `NAME://host:port`, several with commas, IPv6 in brackets, an empty host for all
//! interfaces.

use std::fmt;

use super::key::{ConfigError, list};
use super::settings::{Setting, words};

words! {
    /// What a listener speaks under Kafka's protocol.
    pub enum SecurityProtocol {
        Plaintext = "PLAINTEXT",
        Ssl = "SSL",
        SaslPlaintext = "SASL_PLAINTEXT",
        SaslSsl = "SASL_SSL",
    }
}

/// One address to listen on, or to tell clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    pub name: String,
    pub security_protocol: SecurityProtocol,
    /// Without brackets. Empty: every interface; where advertised, this machine's own name.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{}://{host}:{}", self.name, self.port)
    }
}

impl Listener {
    fn parse(text: &str) -> Option<Listener> {
        let (name, address) = text.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').filter(|inner| inner.contains(':'))?,
            None if host.contains(':') => return None,
            None => host,
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(is_word) || host.contains(['/', '[', ']', ' ']) {
            return None;
        }
        let name = name.to_ascii_uppercase();
        // A name that is no protocol gets its own from listener.security.protocol.map.
        let security_protocol = SecurityProtocol::read(&name).unwrap_or(SecurityProtocol::Plaintext);
        Some(Listener { name, security_protocol, host: host.to_string(), port: port.parse().ok()? })
    }
}

impl Setting for Vec<Listener> {
    fn read(text: &str) -> Option<Vec<Listener>> {
        list(text).map(Listener::parse).collect()
    }

    fn text(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.iter().map(Listener::to_string).collect::<Vec<_>>().join(","))
    }

    fn unset() -> Option<Vec<Listener>> {
        Some(Vec::new())
    }
}

/// What the keys around the listeners come to.
pub(super) struct Endpoints {
    pub listeners: Vec<Listener>,
    pub advertised: Vec<Listener>,
    /// Listeners that were left out because the quorum needs none.
    pub controllers: Vec<Listener>,
}

/// Judges the listeners against each other and against what is offered. `protocol_map` are words `NAME:PROTOCOL`;
/// listeners named in `controller_names` are for Kafka's quorum and fall away. Nothing advertised is: the listeners.
pub(super) fn resolve(
    listeners: &[Listener],
    advertised: &[Listener],
    protocol_map: &[String],
    controller_names: &[String],
) -> Result<Endpoints, ConfigError> {
    let (controllers, mut listeners): (Vec<_>, Vec<_>) =
        listeners.iter().cloned().partition(|listener| controller_names.contains(&listener.name));
    if listeners.is_empty() {
        return Err(ConfigError::value("listeners", "", "at least one listener for clients: PLAINTEXT://host:port"));
    }
    for listener in &mut listeners {
        listener.security_protocol = protocol(&listener.name, protocol_map)?;
        if listener.security_protocol != SecurityProtocol::Plaintext {
            let problem = "only PLAINTEXT is offered, on a trusted network or behind a TLS proxy; SSL and SASL are not";
            return Err(ConfigError::problem("listeners", &listener.to_string(), problem));
        }
    }
    unique(&listeners)?;
    let for_clients = |listener: &&Listener| !controller_names.contains(&listener.name);
    let mut advertised: Vec<Listener> = match advertised {
        [] => listeners.iter().map(advertise).collect(),
        _ => advertised.iter().filter(for_clients).cloned().collect(),
    };
    let names: Vec<String> = advertised.iter().map(|listener| listener.name.clone()).collect();
    for (i, listener) in advertised.iter_mut().enumerate() {
        let text = listener.to_string();
        let refuse = |problem: &str| Err(ConfigError::problem("advertised.listeners", &text, problem));
        if names[..i].contains(&listener.name) {
            return refuse("each listener is advertised once");
        }
        match listeners.iter().find(|other| other.name == listener.name) {
            Some(other) => listener.security_protocol = other.security_protocol,
            None => return refuse("no listener of this name stands in listeners"),
        }
        if matches!(listener.host.as_str(), "0.0.0.0" | "::") {
            return refuse(
                "clients cannot connect to this address; name the host or address they reach this broker by",
            );
        }
    }
    if advertised.is_empty() {
        return Err(ConfigError::value(
            "advertised.listeners",
            "",
            "at least one of the listeners, as clients reach it",
        ));
    }
    Ok(Endpoints { listeners, advertised, controllers })
}

/// What clients are told where nothing else is configured.
fn advertise(listener: &Listener) -> Listener {
    let is_any = matches!(listener.host.as_str(), "0.0.0.0" | "::");
    let host = if is_any { String::new() } else { listener.host.clone() };
    Listener { host, ..listener.clone() }
}

fn protocol(name: &str, map: &[String]) -> Result<SecurityProtocol, ConfigError> {
    const KEY: &str = "listener.security.protocol.map";
    for entry in map {
        let Some((mapped, protocol)) = entry.split_once(':') else {
            return Err(ConfigError::value(KEY, entry, "a list of NAME:PROTOCOL"));
        };
        if mapped.trim().eq_ignore_ascii_case(name) {
            let protocols = SecurityProtocol::WORDS.join(", ");
            return SecurityProtocol::read(&protocol.trim().to_ascii_uppercase())
                .ok_or_else(|| ConfigError::value(KEY, entry, format!("NAME:PROTOCOL with one of: {protocols}")));
        }
    }
    SecurityProtocol::read(name)
        .ok_or_else(|| ConfigError::problem("listeners", name, format!("{KEY} does not say what this listener speaks")))
}

fn unique(listeners: &[Listener]) -> Result<(), ConfigError> {
    for (i, listener) in listeners.iter().enumerate() {
        let earlier = &listeners[..i];
        let refuse = |problem| Err(ConfigError::problem("listeners", &listener.to_string(), problem));
        if earlier.iter().any(|other| other.name == listener.name) {
            return refuse("each listener needs a name of its own");
        }
        let same_place = |other: &&Listener| other.port == listener.port && other.host == listener.host;
        if listener.port != 0 && earlier.iter().any(|other| same_place(&other)) {
            return refuse("two listeners cannot share host and port");
        }
    }
    Ok(())
}

/// Where each core has a port of its own: those of a listener begin at its port, must exist, and belong to no other.
pub(super) fn check_ranges(key: &str, listeners: &[Listener], cores: u16) -> Result<(), ConfigError> {
    let last = |listener: &Listener| u32::from(listener.port) + u32::from(cores) - 1;
    for (i, listener) in listeners.iter().enumerate().filter(|(_, listener)| listener.port != 0) {
        let (first, last_own) = (listener.port, last(listener));
        let refuse = |problem| Err(ConfigError::problem(key, &listener.to_string(), problem));
        if last_own > u32::from(u16::MAX) {
            return refuse(format!(
                "with gannet.listener.per.core {cores} cores need the ports {first} to {last_own}, and the last there is is \
                 65535"
            ));
        }
        let is_any = |host: &str| matches!(host, "" | "0.0.0.0" | "::");
        let same_host = |other: &Listener| other.host == listener.host || is_any(&other.host) || is_any(&listener.host);
        let overlaps = |other: &&Listener| {
            same_host(other) && other.port != 0 && u32::from(other.port) <= last_own && u32::from(first) <= last(other)
        };
        if let Some(other) = listeners[..i].iter().find(overlaps) {
            return refuse(format!(
                "with gannet.listener.per.core each listener needs {cores} ports in a row, here {first} to {last_own}, and \
                 {other} has some of them"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Listener> {
        Setting::read(text).unwrap()
    }

    fn words(text: &str) -> Vec<String> {
        Setting::read(text).unwrap()
    }

    fn refused(listeners: &str, advertised: Option<&str>, map: &str) -> String {
        let advertised = advertised.map(of).unwrap_or_default();
        let outcome = resolve(&of(listeners), &advertised, &words(map), &[]);
        outcome.err().expect("the listeners break a rule").to_string()
    }

    #[test]
    fn hosts_may_be_empty_names_or_ipv6() {
        let listeners = of("PLAINTEXT://:9092, inside://[::1]:9093,OUT-1://broker.example:0");
        let parts: Vec<_> = listeners.iter().map(|l| (l.name.as_str(), l.host.as_str(), l.port)).collect();
        assert_eq!(parts, [("PLAINTEXT", "", 9092), ("INSIDE", "::1", 9093), ("OUT-1", "broker.example", 0)]);
        assert_eq!(listeners.text().unwrap(), "PLAINTEXT://:9092,INSIDE://[::1]:9093,OUT-1://broker.example:0");
        for bad in
            ["localhost:9092", "PLAINTEXT://", "PLAINTEXT://x", "A://::1:9092", "A://x:65536", "A://[x]:1", "://x:1"]
        {
            assert_eq!(<Vec<Listener>>::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_not_offered_is_said() {
        assert!(refused("SSL://:9093", None, "").contains("only PLAINTEXT is offered"));
        assert!(refused("CLIENT://:9092", None, "CLIENT:SASL_SSL").contains("only PLAINTEXT is offered"));
        assert!(refused("CLIENT://:9092", None, "").contains("listener.security.protocol.map"));
        assert!(refused("CLIENT://:9092", None, "CLIENT:TLS").contains("PLAINTEXT, SSL"));
        assert!(refused("CLIENT://:9092", None, "CLIENT").contains("NAME:PROTOCOL"));
    }

    #[test]
    fn listeners_that_clash_are_refused() {
        assert!(refused("", None, "").contains("at least one listener"));
        assert!(refused("PLAINTEXT://a:1,PLAINTEXT://b:2", None, "").contains("name of its own"));
        assert!(refused("PLAINTEXT://a:1,B://a:1", None, "PLAINTEXT:PLAINTEXT,B:PLAINTEXT").contains("share"));
        assert!(refused("PLAINTEXT://:1", Some("OTHER://a:1"), "").contains("no listener of this name"));
        assert!(refused("PLAINTEXT://:1", Some("PLAINTEXT://0.0.0.0:1"), "").contains("cannot connect"));
    }

    #[test]
    fn a_listener_is_advertised_once() {
        assert!(refused("PLAINTEXT://:1", Some("PLAINTEXT://a:1,PLAINTEXT://b:1"), "").contains("once"));
    }

    #[test]
    fn where_each_core_has_a_port_they_must_exist_and_be_free() {
        let check = |listeners: &str, cores| check_ranges("listeners", &of(listeners), cores);
        for (listeners, cores) in [
            ("PLAINTEXT://:65532", 4),
            ("A://:0,B://:0", 100),
            ("A://:9092,B://:9096", 4),
            ("A://:9096,B://:9092", 4),
            ("A://10.0.0.1:9092,B://10.0.0.2:9092", 4),
        ] {
            assert_eq!(check(listeners, cores), Ok(()), "{listeners}");
        }
        let refused = |listeners: &str| check(listeners, 4).expect_err("too little room").to_string();
        assert!(refused("PLAINTEXT://:65533").contains("4 cores need the ports 65533 to 65536"));
        for listeners in
            ["A://:9092,B://:9095", "A://:9095,B://:9092", "A://10.0.0.1:9092,B://:9092", "A://:9092,B://[::1]:9093"]
        {
            let problem = refused(listeners);
            assert!(problem.contains("has some of them"), "{problem}");
        }
    }

    #[test]
    fn a_kafka_file_with_a_controller_listener_works() {
        let listeners = of("PLAINTEXT://:9092,CONTROLLER://:9093");
        let endpoints =
            resolve(&listeners, &[], &words("CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"), &words("CONTROLLER"));
        let endpoints = endpoints.unwrap();
        assert_eq!(endpoints.listeners, listeners[..1]);
        assert_eq!(endpoints.controllers, listeners[1..]);
        assert_eq!(endpoints.advertised, listeners[..1]);
    }

    #[test]
    fn every_interface_is_advertised_by_the_machines_name() {
        let endpoints = resolve(&of("PLAINTEXT://0.0.0.0:9092"), &[], &[], &[]).unwrap();
        assert_eq!((endpoints.advertised[0].host.as_str(), endpoints.advertised[0].port), ("", 9092));
        assert_eq!(endpoints.listeners[0].host, "0.0.0.0");
    }
}
