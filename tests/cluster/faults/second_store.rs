//! A store that the user has already: `up --backup-s3`.

use serde_json::json;

use super::{all_is_well, hand::Hand, store::fails_with};
use crate::{backups, backups::until, cli::Stackctl, objects::Objects, suite::tell};

/// Small enough to be filled: room for a few base backups.
const SIZE: &str = "2Gi";
/// The store's bucket, as `--backup-s3` names it.
pub const PLACE: &str = "http://store.elsewhere.svc:7070,team/db,keys";

pub fn is_used_and_gets_full(stackctl: &Stackctl, objects: &Objects, hand: &Hand) {
    tell("a store of the user's own: what is wrong with it is told before anything is changed");
    start(hand);
    // An earlier run of this step may have left it.
    hand.kubectl(&["delete", "secret", "keys", "--ignore-not-found"]);
    let former = backups::backups(stackctl, "user-db");
    let up = || stackctl.run(&["up", "--backup-s3", PLACE]);
    let refused = up();
    assert!(
        refused.code == 1 && refused.stderr.contains("user-app/keys, which --backup-s3 names, is not there"),
        "{}",
        refused.stderr
    );
    hand.kubectl(&["create", "secret", "generic", "keys", "--from-literal=ACCESS_KEY_ID=mine"]);
    let refused = up();
    assert!(refused.code == 1 && refused.stderr.contains("lacks SECRET_ACCESS_KEY"), "{}", refused.stderr);
    hand.patch("secret/keys", &json!({"stringData": {"SECRET_ACCESS_KEY": "not-the-one"}}));
    let refused = up();
    assert!(refused.code == 1 && refused.stderr.contains("refuses the credentials"), "{}", refused.stderr);
    hand.patch("secret/keys", &json!({"stringData": {"SECRET_ACCESS_KEY": "only-for-this-test"}}));
    let refused = up();
    assert!(refused.code == 1 && refused.stderr.contains("has no such bucket"), "{}", refused.stderr);
    assert!(backups::line(stackctl).starts_with(backups::IN_ORDER), "{}", backups::line(stackctl));
    assert_eq!(backups::backups(stackctl, "user-db"), former, "where they were");

    tell("WAL and base backups go to it, the first one at once; what the store in the cluster has is kept");
    shell(hand, "mkdir /data/team");
    stackctl.ok(&["up", "--backup-s3", PLACE]);
    stackctl.ok(&["diff"]);
    until("the first base backup", || !backups::backups(stackctl, "user-db").is_empty());
    all_is_well(stackctl, &[]);
    let left = hand.json(&["get", "statefulsets"]);
    assert!(!left.to_string().contains("backup-store"), "the store in the cluster is still installed");
    hand.kubectl(&["get", "persistentvolumeclaim/backup-store", "secret/backup-store"]);

    tell("it is full: the database goes on, status says so, and the archive catches up when there is room");
    let before = backups::backups(stackctl, "user-db");
    shell(hand, "dd if=/dev/zero of=/data/filler bs=64k 2>/dev/null; df /data | tail -1");
    fails_with(stackctl, objects, "full", "the store is full");
    shell(hand, "rm /data/filler");
    all_is_well(stackctl, &before);

    tell("back to the store in the cluster: what it had is listed still");
    stackctl.ok(&["up", "--forget", "backup-s3"]);
    until("the store", || stackctl.run(&["backup", "list"]).code == 0);
    let listed = backups::backups(stackctl, "user-db");
    assert!(former.iter().all(|id| listed.contains(id)), "{former:?} became {listed:?}");
}

/// Runs a script where the store's files are.
pub fn shell(hand: &Hand, script: &str) {
    println!("{}", hand.kubectl(&["-n", "elsewhere", "exec", "store", "--", "sh", "-c", script]));
}

/// Starts the same program in a namespace of its own, on a bounded volume, with one bucket less than wanted.
pub fn start(hand: &Hand) {
    hand.kubectl(&["delete", "namespace", "elsewhere", "--ignore-not-found"]);
    let store = hand.json(&["get", "statefulset", "backup-store"]);
    let image = store["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("an image").to_owned();
    let manifest = format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: elsewhere}}
---
apiVersion: v1
kind: Service
metadata: {{name: store, namespace: elsewhere}}
spec: {{selector: {{app: store}}, ports: [{{port: 7070}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: store, namespace: elsewhere, labels: {{app: store}}}}
spec:
  securityContext: {{runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532}}
  containers:
    - name: store
      image: {image}
      imagePullPolicy: IfNotPresent
      command: [versitygw, --quiet, --port, ":7070", --health, /health, posix, /data]
      env:
        - {{name: ROOT_ACCESS_KEY_ID, value: mine}}
        - {{name: ROOT_SECRET_ACCESS_KEY, value: only-for-this-test}}
      volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, emptyDir: {{medium: Memory, sizeLimit: {SIZE}}}}}]
"#
    );
    hand.kubectl_with(&["apply", "-f", "-"], &manifest);
    let pod = || hand.json(&["-n", "elsewhere", "get", "pod", "store"]);
    until("the second store", || pod()["status"]["containerStatuses"][0]["ready"] == true);
}
