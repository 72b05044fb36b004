//! Clients that reach a port, with or without a token, and send slowly, much, or nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_util::task::AbortOnDropHandle;

use super::raw::{Port, Slow, closed, tcp};
use crate::http::{CLEANUP, HEALTH, RUNNING};
use crate::support::proxy::{Mode, Proxies};
use crate::support::{World, https, rbac};

/// Holds this many connections open, each with the beginning of a request, and replaces the oldest with a new one again
/// and again.
fn flood(to: SocketAddr, count: usize, beginning: &'static [u8]) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut held = VecDeque::new();
        loop {
            // It may be refused, or closed during the write.
            if let Ok(mut stream) = tcp(to, "127.0.0.1").await {
                let _ = stream.write_all(beginning).await;
                held.push_back(stream);
            }
            if held.len() > count {
                held.pop_front();
            }
            tokio::task::yield_now().await;
        }
    }))
}

/// Probes as a kubelet does: over a new connection each time, and three failures in a row count.
async fn alive(probes: SocketAddr) {
    let mut failures = Vec::new();
    while failures.len() < 3 {
        let client = https::builder().build().unwrap();
        match client.get(format!("http://{probes}/livez")).send().await {
            Ok(answer) if answer.status() == 200 => return,
            other => failures.push(format!("{other:?}")),
        }
    }
    panic!("the Pod would be restarted: {failures:#?}");
}

/// A client that sends a request at that moment can tell the end from an attack, and sends it again.
#[tokio::test]
async fn idle_connections_and_those_that_make_room_for_others_are_closed_with_close_notify() {
    let world = World::new("hostileidle").await;
    let (operator, _, port) = Port::open(&world, &[("MAX_CONNECTIONS", "4")]).await;
    let mut idle = Vec::new();
    for _ in 0..6 {
        idle.push(port.connect().await);
    }
    for ended in join_all(idle.into_iter().map(closed)).await {
        assert_eq!(ended.unwrap(), 0);
    }
    assert!(operator.log().contains("closed a connection to admit another one"), "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_idle_and_slow_connections_do_not_silence_livez() {
    let world = World::new("hostileprobes").await;
    let (operator, _) = world.serving(&[]).await;
    let probes: SocketAddr = operator.address("probes").await.parse().unwrap();
    alive(probes).await;
    let beginnings: [&[u8]; 4] = [b"", b"G", b"GET /livez HTTP/1.1\r\nX-Slow: ", b"POST /livez HTTP/1.1\r\n"];
    let mut held = Vec::new();
    for count in 0..2_000 {
        let mut stream = tcp(probes, "127.0.0.1").await.unwrap();
        let _ = stream.write_all(beginnings[count % 4]).await;
        held.push(stream);
    }
    // New connections come all the time too.
    let _flood = flood(probes, 500, b"GET /livez HTTP/1.1\r\n");
    for _ in 0..20 {
        alive(probes).await;
    }
}

/// A caller who may not clean up is refused before the body is requested, and occupies no slot meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_slow_bodies_of_strangers_hold_up_nobody() {
    let world = World::new("hostileslow").await;
    let (_operator, https, port) = Port::open(&world, &[("MAX_REQUESTS", "10")]).await;
    world.store(json!({})).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    reader.until(RUNNING, |status, _| status == 200).await;
    let made_up = "Authorization: Bearer nonsense\r\n".to_owned();
    let no_right = format!(
        "Authorization: Bearer {}\r\n",
        rbac::token(&world.client, &world.namespace, "no", &[]).await
    );
    let named = format!("{CLEANUP}?store={}", world.named("jobs"));
    let mut slow = Vec::new();
    for count in 0..100 {
        let path = if count % 2 == 0 { CLEANUP } else { &named };
        let (headers, status) = match count % 4 {
            0 | 1 => ("", "401"),
            2 => (made_up.as_str(), "401"),
            _ => (no_right.as_str(), "403"),
        };
        let headers = format!("{headers}Content-Type: application/json\r\n");
        slow.push((port.post(path, &headers).await, status));
        if count % 10 == 0 {
            assert_eq!(reader.get(RUNNING).await.0, 200, "after {count}");
        }
    }
    let told = join_all(slow.iter_mut().map(async |(request, status)| {
        request.byte().await;
        (request.until("\r\n\r\n").await, *status)
    }));
    for (told, status) in told.await {
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "the body was wanted: {told}");
    }
    assert_eq!(reader.get(RUNNING).await.0, 200);
}

/// A caller who may send a body has limited time for it, and occupies a slot only once it is complete. The same holds for
/// the sign-in, which everybody may use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_body_holds_no_slot_and_is_given_up() {
    let world = World::new("hostilebody").await;
    let (_operator, https, port) = Port::open(&world, &[("MAX_REQUESTS", "1")]).await;
    world.store(json!({})).await;
    let admin = world.token("jobexec-administrator").await;
    let reader = https.with(&world.token("jobexec-reader").await);
    reader.until(RUNNING, |status, _| status == 200).await;
    let headers = format!("Authorization: Bearer {admin}\r\nContent-Type: application/json\r\n");
    let form = "Sec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let mut slow =
        [port.post(CLEANUP, &headers).await.wanted().await, port.post("/sign-in", form).await.wanted().await];
    for request in &mut slow {
        assert!(request.byte().await);
    }
    assert_eq!(reader.get(RUNNING).await.0, 200, "the only slot is free");
    let told = join_all(slow.iter_mut().map(async |request: &mut Slow| request.until("HTTP/1.1 408 ").await));
    for told in told.await {
        assert!(told.contains("HTTP/1.1 408 "), "{told}");
    }
}

/// One caller has a share of the requests, and others do not wait for those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_who_asks_too_much_is_told_so_and_others_are_served() {
    let world = World::new("hostilecaller").await;
    let proxies = Proxies::before(&world).await;
    let env = [("MAX_REQUESTS", "8"), ("MAX_REQUESTS_PER_CALLER", "2")];
    let (_operator, https) = world.serving(&env).await;
    world.store(json!({"pollInterval": "1h"})).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    let reader = https.with(&world.token("jobexec-reader").await);
    let of_store = |path| format!("{path}?store={}", world.named("jobs"));
    let (list, health) = (of_store(RUNNING), of_store(HEALTH));
    for caller in [&admin, &reader] {
        caller.until(&list, |status, _| status == 200).await;
        caller.until(&health, |status, _| status == 200).await;
    }
    proxies.database.set(Mode::Silent);
    let held_up: Vec<_> = (0..2)
        .map(|_| {
            let (admin, list) = (admin.clone(), list.clone());
            // The requests below may come first.
            tokio::spawn(async move { admin.until(&list, |status, _| status == 200).await })
        })
        .collect();
    let problem = admin.until(&health, |status, _| status == 429).await;
    assert_eq!(problem["reason"], "TooManyRequests", "{problem:#}");
    let refused = admin.request(Method::GET, &health).send().await.unwrap();
    assert!(refused.status() == 429 && refused.headers().contains_key("retry-after"), "{refused:?}");
    assert_eq!(reader.get(&health).await.0, 200);
    proxies.database.set(Mode::Open);
    for request in held_up {
        request.await.unwrap();
    }
    assert_eq!(admin.get(&health).await.0, 200);
}

/// A connection above the limit closes an idle one; if all have requests in progress, it waits until one of these ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_connection_takes_the_place_of_an_idle_one_and_of_no_other() {
    let world = World::new("hostilecrowd").await;
    let (_operator, first, port) = Port::open(&world, &[("MAX_CONNECTIONS", "2")]).await;
    world.store(json!({})).await;
    let token = world.token("jobexec-administrator").await;
    let second = first.with_client(https::client());
    let third = |first: &https::Https| {
        let third = first.with_client(https::client());
        tokio::spawn(async move {
            loop {
                // It too can be closed for one of the others before it has sent its request.
                if let Ok(answer) = third.request(Method::GET, RUNNING).send().await {
                    return answer.status().as_u16();
                }
            }
        })
    };
    let newest = third(&first);
    while !newest.is_finished() {
        for old in [&first, &second] {
            // A connection that is closed for the other is opened again.
            if let Ok(answer) = old.request(Method::GET, RUNNING).send().await {
                // Reading all of it keeps the connection open.
                let _ = answer.bytes().await;
            }
        }
    }
    assert_eq!(newest.await.unwrap(), 401);

    let headers = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let path = format!("{CLEANUP}?dry_run=true&store={}", world.named("jobs"));
    let begin = async || port.post(&path, &headers).await.wanted().await;
    let mut busy = [begin().await, begin().await];
    let waits = third(&first);
    for request in &mut busy {
        request.end().await;
    }
    for request in &mut busy {
        // On a busy machine the end may come too late, which gets a response too: no connection is closed without one.
        request.until("\r\n\r\nHTTP/1.1 ").await;
    }
    drop(busy);
    assert_eq!(waits.await.unwrap(), 401);
}

/// Handshakes from one address that do not begin, or do not end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_with_too_many_connections_makes_room_for_itself_and_for_others() {
    let world = World::new("hostileaddress").await;
    let (_operator, https, port) = Port::open(&world, &[("MAX_CONNECTIONS", "64")]).await;
    world.store(json!({})).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    reader.until(RUNNING, |status, _| status == 200).await;
    let elsewhere = || {
        let client = https::builder().local_address(Some([127, 0, 0, 2].into()));
        reader.with_client(client.tls_danger_accept_invalid_certs(true).build().unwrap())
    };
    let mut held = Vec::new();
    for count in 0..500 {
        let mut stream = tcp(port.address, "127.0.0.1").await.unwrap();
        // The first bytes of a record that never ends.
        let _ = stream.write_all(if count % 2 == 0 { b"" } else { b"\x16\x03\x01\x02\x00\x01" }).await;
        held.push(stream);
    }
    let kept = elsewhere();
    for _ in 0..20 {
        assert_eq!(kept.get(RUNNING).await.0, 200, "over a connection that is kept");
        assert_eq!(elsewhere().get(RUNNING).await.0, 200, "over a new one");
    }
    assert_eq!(reader.with_client(https::client()).get(RUNNING).await.0, 200, "from the same address");
}

/// Kubernetes reviews only a limited number of invented tokens of one address, and no invented name of a caller without a
/// token. Known callers are served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_tokens_and_names_do_not_become_a_load_on_the_api_server() {
    let world = World::new("hostiletokens").await;
    let proxies = Proxies::before(&world).await;
    let (_operator, https) = world.serving(&[("AUTH_CACHE_TTL", "1s")]).await;
    world.store(json!({})).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    reader.until(RUNNING, |status, _| status == 200).await;
    let mut guesses = 0;
    let (status, problem) = loop {
        match https.with(&format!("guess-{guesses}")).get(RUNNING).await {
            (401, _) => guesses += 1,
            other => break other,
        }
        assert!(guesses < 1_000, "nothing stops them");
    };
    assert_eq!((status, &problem["reason"]), (429, &json!("TooManyAttempts")), "{problem:#}");
    assert_eq!(https.get(RUNNING).await.0, 401, "without a token nothing is guessed");
    // Its decisions have expired, and its token is reviewed again, from the same address.
    let asked = proxies.api.count("tokenreviews");
    while proxies.api.count("tokenreviews") == asked {
        assert_eq!(reader.get(RUNNING).await.0, 200);
    }

    let asked = proxies.api.count("subjectaccessreviews");
    for name in 0..100 {
        assert_eq!(https.get(&format!("{RUNNING}?store=nowhere/{name}")).await.0, 401);
    }
    let more = proxies.api.count("subjectaccessreviews") - asked;
    assert!(more < 100, "{more} questions about names that nobody has");
}
