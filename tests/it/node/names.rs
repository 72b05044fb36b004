//! A name server with one name, as Pods have no other: the image must be able to ask one.

use std::net::Ipv4Addr;

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// Serves until it is dropped.
pub(super) struct Server(AbortHandle);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Says that `name` is at `address`, where it listens too, and that there are no others.
pub(super) async fn serve(name: &'static str, address: &str) -> Server {
    let address: Ipv4Addr = address.parse().unwrap();
    let socket = UdpSocket::bind((address, 53)).await.unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
            let answer = answer(&buffer[..count], name, address);
            socket.send_to(&answer, peer).await.unwrap();
        }
    });
    Server(task.abort_handle())
}

fn answer(question: &[u8], name: &'static str, address: Ipv4Addr) -> Vec<u8> {
    let mut packet = Packet::parse(question).unwrap().into_reply();
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    let asked = packet.questions.first().expect("a question");
    if asked.qname.to_string() != name {
        *packet.rcode_mut() = RCODE::NameError;
    } else if asked.qtype == QTYPE::TYPE(TYPE::A) {
        let data = RData::A(A { address: address.into() });
        packet.answers.push(ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, 60, data));
    }
    packet.build_bytes_vec().unwrap()
}
