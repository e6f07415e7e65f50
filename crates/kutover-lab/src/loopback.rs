//! Fresh loopback addresses, so that the colours of a world differ by address as they do behind two load balancers,
//! and worlds run side by side.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use uuid::Uuid;

/// How often another address is tried before the machine is taken to have one loopback address only.
const TRIES: usize = 16;

/// Addresses with one port in common: each a loopback address of its own, outside `127.0.0.0/16`, on which the port was
/// free just now. The port is `port`, unless somebody has that one on all addresses. Where the machine has one loopback
/// address only (macOS), all are `127.0.0.1` and the ports differ instead.
///
/// # Errors
/// Not even a free port on `127.0.0.1` can be bound.
pub fn fresh(count: usize, port: u16) -> io::Result<Vec<SocketAddr>> {
    let other = free_ports(IpAddr::V4(Ipv4Addr::LOCALHOST), 1)?;
    if let Some(places) = [port].into_iter().chain(other).find_map(|port| with_port(count, port)) {
        return Ok(places);
    }
    free_ports(IpAddr::V4(Ipv4Addr::LOCALHOST), count).map(|ports| {
        ports.into_iter().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).collect()
    })
}

/// Loopback addresses on which this port is free, if there are that many.
fn with_port(count: usize, port: u16) -> Option<Vec<SocketAddr>> {
    let mut places = Vec::with_capacity(count);
    for _ in 0..TRIES {
        let place = SocketAddr::new(IpAddr::V4(random_loopback()), port);
        if !places.contains(&place) && TcpListener::bind(place).is_ok() {
            places.push(place);
            if places.len() == count {
                return Some(places);
            }
        }
    }
    None
}

/// Ports of an address that were free just now, all different.
///
/// # Errors
/// The address does not belong to this machine, or no port is free.
pub fn free_ports(ip: IpAddr, count: usize) -> io::Result<Vec<u16>> {
    // All are held open until the last is found, or the system would give the same one twice.
    let listeners = (0..count).map(|_| TcpListener::bind((ip, 0))).collect::<io::Result<Vec<_>>>()?;
    listeners.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect()
}

/// `127.x.y.z` with x from 1 and z from 1 to 254.
fn random_loopback() -> Ipv4Addr {
    let random = Uuid::new_v4().into_bytes();
    Ipv4Addr::new(127, random[0].max(1), random[1], random[2].clamp(1, 254))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_places_differ_and_can_be_bound() {
        let places = fresh(2, 9092).expect("a loopback address");
        assert_ne!(places[0], places[1]);
        for place in &places {
            assert!(place.ip().is_loopback());
            TcpListener::bind(place).expect("the place is free");
        }
        if places[0].ip() != places[1].ip() {
            assert!(places.iter().all(|place| place.port() == 9092));
        }
    }

    /// As where a Kafka of the machine's own listens on all addresses.
    #[test]
    fn a_port_that_is_taken_everywhere_is_replaced_on_all() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let places = fresh(2, port).expect("addresses");
        assert_ne!(places[0].ip(), places[1].ip());
        assert_eq!(places[0].port(), places[1].port());
        assert_ne!(places[0].port(), port);
    }

    #[test]
    fn free_ports_are_never_the_same_twice() {
        let mut ports = free_ports(IpAddr::V4(Ipv4Addr::LOCALHOST), 20).expect("free ports");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
