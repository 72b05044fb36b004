//! The name server for Pods, in place of `CoreDNS`: Services, and one more name. The image must query it.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// Serves until it is dropped.
pub(super) struct Names(AbortHandle);

impl Drop for Names {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Names {
    /// Serves `address` for `host`, and listens there too.
    pub(super) async fn serve(client: Client, host: &'static str, address: &str) -> Self {
        let address: Ipv4Addr = address.parse().unwrap();
        let socket = UdpSocket::bind((address, 53)).await.unwrap();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
                let question = Packet::parse(&buffer[..count]).unwrap();
                let name = question.questions[0].qname.to_string();
                let found = if name == host { Some(address) } else { service(&client, &name).await };
                socket.send_to(&answer(question, found), peer).await.unwrap();
            }
        });
        Self(task.abort_handle())
    }
}

/// The address of a Service by its full name.
async fn service(client: &Client, name: &str) -> Option<Ipv4Addr> {
    let (service, namespace) = name.strip_suffix(".svc.cluster.local")?.split_once('.')?;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    // A name with more parts than that of a Service does not exist.
    let found = services.get_opt(service).await.ok()??;
    found.spec?.cluster_ip?.parse().ok()
}

/// A name may have an address of another type than requested: an empty answer is then no error.
fn answer(question: Packet, found: Option<Ipv4Addr>) -> Vec<u8> {
    let mut packet = question.into_reply();
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    let asked = packet.questions[0].clone();
    match found {
        None => *packet.rcode_mut() = RCODE::NameError,
        Some(address) if asked.qtype == QTYPE::TYPE(TYPE::A) => {
            let data = RData::A(A { address: address.into() });
            packet.answers.push(ResourceRecord::new(asked.qname, CLASS::IN, 0, data));
        }
        Some(_) => {}
    }
    packet.build_bytes_vec().unwrap()
}
