//! How large a stack is: chosen, remembered, and refused where values do not go together.

use crate::sandbox::Sandbox;

fn bounds(rendered: &str) -> (bool, bool) {
    (rendered.contains("minReplicas: 3"), rendered.contains("maxReplicas: 20"))
}

#[test]
fn a_size_comes_from_the_flag_the_variable_or_the_file() {
    let sandbox = Sandbox::with_docker();
    let web = ["render", "--part", "web"];
    let small = sandbox.run(&web);
    assert!(small.contains("minReplicas: 2") && small.contains("maxReplicas: 10"), "{small}");
    assert_eq!(bounds(&sandbox.run(&[&web[..], &["--size", "medium"]].concat())), (true, true));
    let variable = sandbox.command(&web).env("STACKCTL_SIZE", "medium").output().unwrap();
    assert_eq!(bounds(&sandbox.shown(&variable)), (true, true));
    sandbox.write("home/.config/stackctl/config.toml", "size = \"medium\"\n\n[sizes]\nweb-min = 5\n");
    let file = sandbox.run(&web);
    assert!(file.contains("minReplicas: 5") && file.contains("maxReplicas: 20"), "{file}");
    let flag = sandbox.run(&[&web[..], &["--size", "large"]].concat());
    assert!(flag.contains("minReplicas: 5") && flag.contains("maxReplicas: 40"), "the table is of every size: {flag}");
}

#[test]
fn a_size_is_remembered_until_it_is_forgotten() {
    let sandbox = Sandbox::with_docker();
    sandbox.write("home/.local/state/stackctl/stacks/stackctl/stack-user-app.json", r#"{"options":{"size":"medium"}}"#);
    assert_eq!(bounds(&sandbox.run(&["render", "--part", "web"])), (true, true));
    let forgotten = sandbox.run(&["up", "--forget", "size", "--dry-run"]);
    assert!(!forgotten.contains("--size"), "{forgotten}");
    let remembered = sandbox.run(&["up", "--dry-run"]);
    assert!(remembered.contains("from the last up of this stack: --size medium"), "{remembered}");
}

#[test]
fn what_is_no_size_and_what_does_not_go_together_is_a_usage_error() {
    let sandbox = Sandbox::with_docker();
    let huge = sandbox.run(&["up", "--size", "huge"]);
    assert!(huge.starts_with("exit code 2") && huge.contains("small, medium, large"), "{huge}");
    for (table, told) in [
        ("web-max = 100", "the database takes 200"),
        ("shared-buffers = '1Gi'", "more than the 192Mi"),
        ("database-memory = 'much'", "sizes.database-memory"),
        ("sharedbuffers = '1Gi'", "sharedbuffers"),
    ] {
        sandbox.write("home/.config/stackctl/config.toml", &format!("[sizes]\n{table}\n"));
        let said = sandbox.run(&["up"]);
        assert!(said.starts_with("exit code 2") && said.contains(told), "{table}: {said}");
    }
    assert!(sandbox.calls().is_empty(), "nothing was begun: {:?}", sandbox.calls());
}
