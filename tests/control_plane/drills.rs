use serde_json::{Value, json};
use stackctl::{
    cli::Global,
    config::{Config, Options},
    drills::{
        actions::{nodes::cordon, operator::scale, postgres},
        journal::{DrillRecord, Journal, LocalJournal},
        target::{CurrentDatabase, DrillTarget},
        undo::Undo,
    },
    kube::ObjectRef,
};

use crate::{
    harness::{Sandbox, create, sandbox},
    manifests::operators_kinds,
};

/// A stack as far as a drill changes it: the Cluster, a Deployment in the operator's place, and a node.
async fn stack(sandbox: &Sandbox, folder: &tempfile::TempDir, node: &str) -> Journal {
    operators_kinds(&sandbox.kube).await;
    let spec = json!({"spec": {"instances": 3, "storage": {"size": "1Gi"},
        "postgresql": {"synchronous": {"method": "any", "number": 1}}}});
    let mut cluster = sandbox.object("postgresql.cnpg.io/v1", "Cluster", "user-db", spec);
    cluster.metadata.labels.get_or_insert_default().insert("app.kubernetes.io/managed-by".into(), "stackctl".into());
    let labels = json!({"app": "operator"});
    let spec = json!({"spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
        "metadata": {"labels": labels}, "spec": {"containers": [{"name": "manager", "image": "operator:1"}]}}}});
    sandbox.apply(&[cluster, sandbox.object("apps/v1", "Deployment", "operator", spec)]).await.unwrap();
    create(&sandbox.kube, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})).await;
    let database = CurrentDatabase::new("user-db");
    Journal {
        target: DrillTarget { kube: sandbox.kube.clone(), namespace: sandbox.namespace.clone(), database },
        config: Config::load(&Global::default(), &Options::default()).unwrap(),
        local: LocalJournal::new(folder.path(), "control-plane"),
    }
}

async fn field(sandbox: &Sandbox, object: &ObjectRef, pointer: &str) -> Value {
    sandbox.get(object).await.unwrap().data.pointer(pointer).cloned().unwrap_or_default()
}

#[tokio::test]
async fn whoever_comes_after_a_crash_finds_what_to_undo_and_may_undo_it_twice() {
    let sandbox = sandbox("drill-record").await;
    let folder = tempfile::tempdir().unwrap();
    let journal = stack(&sandbox, &folder, "drilled").await;
    let target = &journal.target;
    assert_eq!(journal.read().await.unwrap(), None);

    // A drill begins, writes down what it is going to change, changes it, and is gone.
    let mut record = DrillRecord { run: "r1".into(), scenario: "control".into(), undo: Vec::new() };
    journal.begin(&record).await.unwrap();
    let value = json!({"method": "any", "number": 1});
    let namespace = sandbox.namespace.clone();
    let changes = [
        Undo::Synchronous { value: value.clone() },
        Undo::Unfence,
        Undo::Scale { namespace, name: "operator".into(), replicas: 1 },
        Undo::Uncordon { node: "drilled".into() },
    ];
    journal.add(&mut record, changes).await.unwrap();
    postgres::set_synchronous(target, &Value::Null).await.unwrap();
    postgres::fence(target, &["*".to_owned()]).await.unwrap();
    scale(target, &sandbox.namespace, "operator", 0).await.unwrap();
    cordon(target, "drilled", true).await.unwrap();

    // Other versions look for it there.
    let map = sandbox.get(&sandbox.reference("v1", "ConfigMap", "stackctl-drill")).await.unwrap();
    assert_eq!(map.data["data"]["drill"], serde_json::to_string(&record).unwrap());

    // A second drill does not begin over it.
    assert!(journal.begin(&record).await.is_err());
    let found = journal.read().await.unwrap().expect("a record");
    assert_eq!(found, record);
    for time in ["once", "twice"] {
        journal.undo_changes(&found).await.unwrap();
        let cluster = sandbox.reference("postgresql.cnpg.io/v1", "Cluster", "user-db");
        assert_eq!(field(&sandbox, &cluster, "/spec/postgresql/synchronous").await, value, "{time}");
        let annotations = sandbox.get(&cluster).await.unwrap().metadata.annotations.unwrap_or_default();
        assert!(!annotations.contains_key(postgres::FENCING), "{time}");
        let operator = sandbox.reference("apps/v1", "Deployment", "operator");
        assert_eq!(field(&sandbox, &operator, "/spec/replicas").await, 1, "{time}");
        let node = ObjectRef::cluster("v1", "Node", "drilled");
        assert_ne!(field(&sandbox, &node, "/spec/unschedulable").await, true, "{time}");
    }
}
