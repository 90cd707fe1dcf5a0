//! A database that took a former one's place, and is gone.

use serde_json::{Value, json};
use stackctl::{
    assets::Part,
    cli::Global,
    config::{Config, Options},
    context::Context,
    desired,
    ui::Reporter,
};

use crate::{
    harness::{control_plane, create, sandbox, words},
    manifests::operators_kinds,
};

#[tokio::test]
async fn a_restored_database_that_is_gone_is_not_made_anew_empty() {
    let sandbox = sandbox("lost").await;
    operators_kinds(&sandbox.kube).await;
    let global = Global {
        kubeconfig: Some(control_plane().kubeconfig("admin-token", |_| {})),
        context: Some("test".into()),
        namespace: Some(sandbox.namespace.clone()),
        ..Global::default()
    };
    let context = || {
        let mut config = Config::load(&global, &Options::default()).unwrap();
        config.backup = None;
        Context::new(config, Reporter::discard()).unwrap()
    };
    let cluster = async |cx: &Context| {
        let objects = desired::desired(cx, Part::Database).await?;
        let found =
            objects.into_iter().find(|object| object.types.as_ref().is_some_and(|types| types.kind == "Cluster"));
        Ok::<_, anyhow::Error>(found.unwrap().metadata.name.unwrap())
    };
    assert_eq!(cluster(&context()).await.unwrap(), "user-db", "the first one is made");

    let mut inventory = sandbox.object("v1", "ConfigMap", "stackctl-inventory", json!({"data": {}}));
    let note = [("stackctl/database".to_owned(), "user-db-restored".to_owned())];
    inventory.metadata.annotations = Some(note.into());
    create(&sandbox.kube, serde_json::to_value(inventory).unwrap()).await;
    let told = words(&cluster(&context()).await.unwrap_err());
    assert!(told.contains("user-db-restored, which the app uses, is gone with its volumes"), "{told}");
    assert!(told.contains("stackctl restore brings back"), "{told}");

    // From volumes that were kept it goes on.
    let spec: Value =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let mut claim = sandbox.object("v1", "PersistentVolumeClaim", "user-db-restored-1", spec);
    claim.metadata.labels.get_or_insert_default().insert("cnpg.io/cluster".into(), "user-db-restored".into());
    create(&sandbox.kube, serde_json::to_value(claim).unwrap()).await;
    assert_eq!(cluster(&context()).await.unwrap(), "user-db-restored");
}
