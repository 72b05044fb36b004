//! One object of each kind that cannot be decoded, as after a downgrade of the operator, beside valid ones. It needs CRDs
//! that accept such objects, and so a cluster of its own.

use jobexec_operator::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::https::OPEN;
use crate::support::{World, is, message};

#[tokio::test(flavor = "multi_thread")]
async fn one_object_that_cannot_be_decoded_stalls_no_other() {
    let world = World::on_own_cluster("guard", loosened()).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    let operator = world.operator();
    let raw = async |kind: &str, name: &str, object: Value| {
        let plural = format!("{}s", kind.to_lowercase());
        let gvk = kube::core::GroupVersionKind::gvk("jobexec.dev", "v1alpha1", kind);
        let resource = kube::api::ApiResource::from_gvk_with_plural(&gvk, &plural);
        kube::Api::<DynamicObject>::namespaced_with(world.client.clone(), &world.namespace, &resource)
            .patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object))
            .await
            .unwrap()
    };
    raw("ExecutionStore", "broken", World::store_with("broken", json!({"defaultTimeout": {"hours": 24}})))
        .await;
    raw("JobExecution", "broken", World::execution_with("broken", "1", json!({"timeout": [1]}))).await;
    // This one could be decoded when its timeout became a rule, and no longer can.
    world.sql("INSERT INTO job_executions VALUES (2, 1, 2, 'running', now())").await;
    world.execution("once-good", "2", json!({"timeout": "72h"})).await;
    world.execution("good", "1", json!({})).await;
    world.store(json!({})).await;

    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    world.execution_until(&operator, "good", |s| is(&s.conditions, "Finished", "True", "Failed")).await;
    world.execution_until(&operator, "once-good", |s| s.timeout.as_deref() == Some("3d")).await;
    // Stale only now: an object is not necessarily seen before a store that was created later.
    world.sql("UPDATE job_executions SET started_at = now() - interval '2 days' WHERE id = 2").await;
    raw("JobExecution", "once-good", World::execution_with("once-good", "2", json!({"timeout": "3 days"})))
        .await;
    world.raw_conditions_until(&operator, "JobExecution", "once-good", "Bound", "InvalidObject").await;
    operator.kill();
    let operator = world.operator_with(&OPEN);
    world.request_sweep(&operator).await;
    assert_eq!(world.status(2).await, "running", "what it said before stays in force");
    let told = "store=\"broken\",type=\"Ready\",reason=\"InvalidObject\"} 1";
    let metrics = operator.metrics().await;
    assert!(metrics.contains(told), "{metrics}");
    for kind in ["ExecutionStore", "JobExecution"] {
        let type_ = if kind == "ExecutionStore" { "Ready" } else { "Bound" };
        let told = world.raw_conditions_until(&operator, kind, "broken", type_, "InvalidObject").await;
        assert!(message(&told, type_).contains("cannot be decoded"), "{told:#?}");
    }

    world
        .apply::<ExecutionStore>("broken", World::store_with("broken", json!({"defaultTimeout": "1h"})))
        .await
        .unwrap();
    world
        .store_named_until(&operator, "broken", |s| is(&s.conditions, "Ready", "False", "TableClaimed"))
        .await;
    world
        .apply::<JobExecution>("broken", World::execution_with("broken", "1", json!({"timeout": "1h"})))
        .await
        .unwrap();
    world.execution_until(&operator, "broken", |s| is(&s.conditions, "Finished", "True", "Failed")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_said_before_it_could_not_be_decoded_any_more_stays_in_force() {
    let world = World::on_own_cluster("guardpolicy", loosened()).await;
    world
        .sql("INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '2 days' FROM generate_series(1, 3) n")
        .await;
    world.policy("all", json!({"timeout": "72h"})).await;
    world.policy("a", json!({"timeout": "80h", "selector": {"jobIds": ["2"]}})).await;
    // Younger, or later by name: for job 2 only its grace period counts.
    world
        .policy("b", json!({"timeout": "1h", "gracePeriod": "1m", "selector": {"jobIds": ["2", "3"]}}))
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    for name in ["all", "a"] {
        let object = World::policy_with(name, json!({"timeout": [1]}));
        let gvk = kube::core::GroupVersionKind::gvk("jobexec.dev", "v1alpha1", "ExecutionPolicy");
        let resource = kube::api::ApiResource::from_gvk_with_plural(&gvk, "executionpolicies");
        kube::Api::<DynamicObject>::namespaced_with(world.client.clone(), &world.namespace, &resource)
            .patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object))
            .await
            .unwrap();
        let told =
            world.raw_conditions_until(&operator, "ExecutionPolicy", name, "Accepted", "InvalidObject").await;
        assert!(message(&told, "Accepted").contains("What it said before stays in force"), "{told:#?}");
    }
    world.request_sweep(&operator).await;
    let rules = "SELECT string_agg(concat_ws(' ', key, timeout_source, grace_source), ', ' ORDER BY key) \
         FROM jobexec.rules WHERE scope IN ('store', 'job')";
    let expected = " ExecutionPolicy/all ExecutionStore/jobs, 2 ExecutionPolicy/a ExecutionPolicy/b, \
         3 ExecutionPolicy/b ExecutionPolicy/b";
    assert_eq!(world.one::<String>(rules).await, expected);
    operator.kill();
    let operator = world.operator_with(&OPEN);
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(rules).await, expected);
    let told = "policy=\"all\",store=\"\",type=\"Accepted\",status=\"false\"} 1";
    let metrics = operator.metrics().await;
    assert!(metrics.contains(told), "{metrics}");
    assert_eq!((world.status(1).await, world.status(2).await), ("running".into(), "running".into()));
    // A deleted object has no effect any more.
    world.policy("all", json!({"timeout": "99h"})).await;
    world.delete::<ExecutionPolicy>("a").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    assert_eq!(world.status(1).await, "running");
}

/// The CRDs with a spec that accepts any content.
pub(crate) fn loosened() -> Vec<CustomResourceDefinition> {
    let mut crds = jobexec_operator::api::crds();
    for crd in &mut crds {
        let schema = crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        let any = JSONSchemaProps {
            type_: Some("object".into()),
            x_kubernetes_preserve_unknown_fields: Some(true),
            ..JSONSchemaProps::default()
        };
        schema.properties.as_mut().unwrap().insert("spec".into(), any);
        // Selectable fields must be in the schema.
        crd.spec.versions[0].selectable_fields = None;
    }
    crds
}
