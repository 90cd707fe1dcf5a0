use serde_json::json;
use stackctl::kube::operator_in_use;

use crate::{harness::sandbox, manifests::operators_kinds};

#[tokio::test]
async fn databases_that_the_operator_runs_are_named() {
    let sandbox = sandbox("in-use").await;
    operators_kinds(&sandbox.kube).await;
    let spec = json!({"spec": {"instances": 1, "storage": {"size": "1Gi"}}});
    sandbox.apply(&[sandbox.object("postgresql.cnpg.io/v1", "Cluster", "orders", spec)]).await.unwrap();
    // Other tests have databases too, at the same time.
    let text = operator_in_use(&sandbox.kube).await.unwrap().expect("there is one");
    assert!(text.contains("Cluster test-in-use/orders"), "{text}");
}
