//! The operator's Pod, as seen from the node.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::release::{NAMESPACE, Release};
use super::{PATIENCE, PAUSE};

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|container| container.name == "operator")
}

pub(super) fn restarts(pod: &Pod) -> i32 {
    container(pod).map_or(0, |container| container.restart_count)
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && container(pod).is_some_and(|container| container.ready)
}

/// The folder of the operator's process in /proc: containers are in namespaces below those of the test. The control group
/// shows to which Pod a process belongs.
fn process(pod: &Pod) -> PathBuf {
    let uid = pod.metadata.uid.as_ref().unwrap();
    let found = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(|process| {
        let text = |name: &str| fs::read(process.join(name)).unwrap_or_default();
        text("cmdline").starts_with(b"/jobexec\0operator\0")
            && String::from_utf8_lossy(&text("cgroup")).contains(uid)
    });
    found.expect("no process of that Pod")
}

/// Kills the operator as the kernel does when it runs out of memory.
pub(super) fn kill(pod: &Pod) {
    let pid = process(pod).file_name().unwrap().to_owned();
    let status = std::process::Command::new("kill").arg("-KILL").arg(pid).status().unwrap();
    assert!(status.success());
}

/// Checks that the process has only the capabilities that it needs, whatever the Pod's spec contains.
pub(super) fn is_confined(pod: &Pod) {
    let process = process(pod);
    let status = fs::read_to_string(process.join("status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid"), "65532 65532 65532 65532");
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2", "no filter of system calls");
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(capabilities), "0000000000000000", "{capabilities}");
    }
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap();
    let root: Vec<_> =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|m| m[4] == "/").collect();
    assert_eq!(root.len(), 1, "{mounts}");
    assert!(root[0][5].split(',').any(|option| option == "ro"), "the root can be written: {mounts}");
}

/// Checks the size of the image and the memory in use, as Kubernetes reports them.
pub(super) async fn is_small(release: &Release, address: &str) {
    let nodes: Api<Node> = Api::all(release.client.clone());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (node, size) = loop {
        let node = nodes.list(&ListParams::default()).await.unwrap().items.remove(0);
        let status = node.status.unwrap();
        assert!(status.addresses.iter().flatten().any(|one| one.address == address));
        let of_operator = |name: &String| name.contains("jobexec-operator");
        let mut images = status.images.into_iter().flatten();
        if let Some(image) = images.find(|image| image.names.iter().flatten().any(of_operator)) {
            break (node.metadata.name.unwrap(), image.size_bytes.unwrap());
        }
        assert!(tokio::time::Instant::now() < deadline, "the node does not tell of the image");
        tokio::time::sleep(PAUSE).await;
    };
    let used = working_set(release, &node).await;
    println!(
        "          image {}.{} MB, working set {} KiB",
        size / 1_000_000,
        size / 100_000 % 10,
        used >> 10
    );
    // The size for a debug build without debug information.
    assert!(size < 100_000_000, "the image has {size} bytes");
    assert!(used < 64 << 20, "the operator uses {used} bytes");
}

/// The working set, in bytes. The kubelet measures about every ten seconds.
async fn working_set(release: &Release, node: &str) -> u64 {
    let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let request = http::Request::get(&path).body(Vec::new()).unwrap();
        let summary: Value = release.client.request(request).await.unwrap();
        let pods = summary["pods"].as_array().into_iter().flatten();
        let mut ours = pods.filter(|pod| pod["podRef"]["namespace"] == NAMESPACE);
        let containers = ours.find_map(|pod| pod["containers"].as_array()).into_iter().flatten();
        let used = containers.filter_map(|container| container["memory"]["workingSetBytes"].as_u64()).max();
        match used {
            Some(used) if used > 0 => return used,
            _ => assert!(tokio::time::Instant::now() < deadline, "no figures: {summary}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
