//! The few words of rtnetlink that are needed: addresses, one rule, one route.

use rustix::{
    fd::OwnedFd,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv,
        send, socket_with,
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The protocol of routes is number zero, which is what no protocol stands for.
const ROUTE: Option<Protocol> = None;

const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESSES: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;

const V4: u8 = 2;
const V6: u8 = 10;
/// The loopback device has this index in every namespace.
const LOOPBACK: u32 = 1;
const HEADER: usize = 16;

/// All addresses of the namespace.
pub(super) fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    exchange(GET_ADDRESSES, DUMP, &[0; 8], |kind, payload| {
        if kind == NEW_ADDRESS && payload.len() >= 8 {
            found.extend(address(payload));
        }
    })?;
    Ok(found)
}

/// The local address where there is one: on links between two ends the other is the peer's.
fn address(payload: &[u8]) -> Option<IpAddr> {
    let (mut local, mut any) = (None, None);
    let mut rest = &payload[8..];
    while let [l0, l1, k0, k1, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        let address = match value.len() {
            4 => <[u8; 4]>::try_from(value).ok().map(|b| IpAddr::V4(Ipv4Addr::from(b))),
            16 => <[u8; 16]>::try_from(value).ok().map(|b| IpAddr::V6(Ipv6Addr::from(b))),
            _ => None,
        };
        match u16::from_ne_bytes([k0, k1]) {
            1 => any = address,
            2 => local = address,
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    local.or(any)
}

/// Adds or removes an address of the loopback device that is its own alone.
pub(super) fn loopback_address(address: Ipv6Addr, add: bool) -> io::Result<()> {
    let mut body = vec![V6, 128, 0, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    attribute(&mut body, 1, &address.octets());
    attribute(&mut body, 2, &address.octets());
    change(add, NEW_ADDRESS, DELETE_ADDRESS, &body)
}

/// Adds or removes the rule by which packets with a mark are routed by a table.
pub(super) fn mark_rule(ipv6: bool, mark: u32, table: u32, add: bool) -> io::Result<()> {
    const TO_TABLE: u8 = 1;
    /// Just before the rule of the main table. Without a place of its own the kernel adds a rule again and again.
    const BEFORE_MAIN: u32 = 32765;
    let mut body = vec![family(ipv6), 0, 0, 0, small(table), 0, 0, TO_TABLE, 0, 0, 0, 0];
    if add {
        attribute(&mut body, 6, &BEFORE_MAIN.to_ne_bytes());
    }
    attribute(&mut body, 10, &mark.to_ne_bytes());
    attribute(&mut body, 15, &table.to_ne_bytes());
    change(add, NEW_RULE, DELETE_RULE, &body)
}

/// Adds or removes the route of a table by which every packet is for this machine.
pub(super) fn local_route(ipv6: bool, table: u32, add: bool) -> io::Result<()> {
    const OF_BOOT: u8 = 3;
    const WITHIN_HOST: u8 = 254;
    const LOCAL: u8 = 2;
    let mut body = vec![family(ipv6), 0, 0, 0, small(table), OF_BOOT, WITHIN_HOST, LOCAL, 0, 0, 0, 0];
    attribute(&mut body, 4, &LOOPBACK.to_ne_bytes());
    attribute(&mut body, 15, &table.to_ne_bytes());
    change(add, NEW_ROUTE, DELETE_ROUTE, &body)
}

fn family(ipv6: bool) -> u8 {
    if ipv6 { V6 } else { V4 }
}

/// The byte for a table; the attribute holds what a byte cannot.
fn small(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(0)
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("a short attribute");
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn change(add: bool, new: u16, delete: u16, body: &[u8]) -> io::Result<()> {
    let (kind, flags) = if add { (new, CREATE | EXCLUSIVE) } else { (delete, 0) };
    exchange(kind, flags | ACKNOWLEDGE, body, |_, _| {})
}

/// Sends a message, and gives each that is answered to `take`.
fn exchange(kind: u16, flags: u16, body: &[u8], mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let socket: OwnedFd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, ROUTE)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(u32::try_from(HEADER + body.len()).expect("a short message").to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags | REQUEST).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    send(&socket, &message, SendFlags::empty())?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..length];
        while let [l0, l1, l2, l3, k0, k1, ..] = *rest {
            let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            let payload = rest.get(HEADER..length).ok_or(io::ErrorKind::InvalidData)?;
            match u16::from_ne_bytes([k0, k1]) {
                DONE => return Ok(()),
                ERROR => return result(payload),
                kind => take(kind, payload),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// An error of the number zero is an acknowledgement.
fn result(payload: &[u8]) -> io::Result<()> {
    let number = payload.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(io::ErrorKind::InvalidData)?;
    if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-number)) }
}
