use serde_json::{Value, json};
use stackctl::{
    cli::Global,
    config::{Config, Options},
    drills::{
        actions::{
            loss::{self, RecordedDatabase},
            nodes::cordon,
            operator::scale,
            postgres,
        },
        journal::{DrillRecord, Journal, LocalJournal},
        target::{CurrentDatabase, DrillTarget},
        undo::Undo,
    },
    error::one_line,
    kube::ObjectRef,
    ui::Reporter,
};

use crate::{
    harness::{Sandbox, create, sandbox},
    manifests::operators_kinds,
};

/// A stack as far as a drill changes it: the Cluster, a Deployment in the operator's place, and a node.
pub async fn stack(sandbox: &Sandbox, folder: &tempfile::TempDir, node: &str) -> Journal {
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
        reporter: Reporter::discard(),
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

const VOLUMES: [&str; 3] = ["user-db-1", "user-db-2", "user-db-3"];

async fn volumes(sandbox: &Sandbox) {
    for name in VOLUMES {
        let spec = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        let mut claim = sandbox.object("v1", "PersistentVolumeClaim", name, spec);
        claim.metadata.labels.get_or_insert_default().insert("cnpg.io/cluster".into(), "user-db".into());
        create(&sandbox.kube, serde_json::to_value(claim).unwrap()).await;
    }
}

/// The UIDs of the Cluster and of its volumes; of what is gone or going, none.
async fn uids(sandbox: &Sandbox) -> Vec<Option<String>> {
    let mut all = vec![sandbox.reference("postgresql.cnpg.io/v1", "Cluster", "user-db")];
    all.extend(VOLUMES.map(|name| sandbox.reference("v1", "PersistentVolumeClaim", name)));
    let mut uids = Vec::new();
    for object in all {
        let found = sandbox.get(&object).await.filter(|found| found.metadata.deletion_timestamp.is_none());
        uids.push(found.and_then(|found| found.metadata.uid));
    }
    uids
}

fn restore(recorded: Option<&RecordedDatabase>) -> Undo {
    let (lost, name) = ("user-db".into(), "user-db-20261128-061500".into());
    Undo::Restore { lost, name, recorded: recorded.cloned(), begun: false }
}

/// The story that deleted a healthy database: no pod answers, and the drill is interrupted before its fault.
#[tokio::test]
async fn a_disaster_that_was_interrupted_before_its_fault_deletes_nothing() {
    let sandbox = sandbox("drill-before").await;
    let folder = tempfile::tempdir().unwrap();
    let journal = stack(&sandbox, &folder, "drilled-before").await;
    volumes(&sandbox).await;
    let before = uids(&sandbox).await;
    assert!(before.iter().all(Option::is_some));
    let recorded = loss::record(&journal.target).await.unwrap();
    let known: Vec<_> = recorded.volumes.iter().map(|volume| Some(volume.uid.clone())).collect();
    assert_eq!((Some(recorded.cluster.clone()), known.as_slice()), (before[0].clone(), &before[1..]));

    let mut record = DrillRecord { run: "r1".into(), scenario: "disaster".into(), undo: Vec::new() };
    journal.begin(&record).await.unwrap();
    journal.add(&mut record, [restore(Some(&recorded))]).await.unwrap();
    journal.undo_changes(&journal.read().await.unwrap().unwrap()).await.unwrap();
    assert_eq!(uids(&sandbox).await, before);

    // A record of 8b80009 shows nothing of what has begun.
    journal.undo(&restore(None)).await.unwrap();
    assert_eq!(uids(&sandbox).await, before);

    // The deletion was about to begin, and no volume was deleted: whatever does not answer is the operator's to recover.
    journal.mark_begun(&mut record).await.unwrap();
    let found = journal.read().await.unwrap().unwrap();
    assert!(matches!(found.undo[0], Undo::Restore { begun: true, .. }), "{found:?}");
    let error = one_line(&journal.undo_changes(&found).await.unwrap_err());
    assert!(error.contains("user-db-1, user-db-2, user-db-3 were not destroyed"), "{error}");
    assert_eq!(uids(&sandbox).await, before);
}

#[tokio::test]
async fn only_the_volumes_that_were_recorded_are_destroyed() {
    let sandbox = sandbox("drill-recorded").await;
    let folder = tempfile::tempdir().unwrap();
    let journal = stack(&sandbox, &folder, "drilled-recorded").await;
    volumes(&sandbox).await;
    let before = uids(&sandbox).await;
    let mut recorded = loss::record(&journal.target).await.unwrap();
    recorded.volumes[1].uid = "another".into();
    let destroyed = drills_destroy(&journal, &recorded).await;
    assert!(destroyed.is_err(), "a volume that is not the recorded one");
    let after = uids(&sandbox).await;
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]), "it stays");
}

async fn drills_destroy(journal: &Journal, recorded: &RecordedDatabase) -> anyhow::Result<()> {
    stackctl::drills::actions::volumes::destroy_all(&journal.target, &VOLUMES, &recorded.volumes).await
}
