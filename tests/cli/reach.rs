//! `open`, `grafana` and `prometheus`: what stands in their way, and how they end.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    api_server::{NO_KINDS, api_server, kubeconfig, not_found},
    sandbox::Sandbox,
    snapshot,
};

const SERVICE: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"user-app","namespace":"user-app"},"spec":{"ports":[{"name":"http","port":80}]}}"#;
const ENDPOINTS: &str = r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSliceList","metadata":{},"items":[
    {"metadata":{"name":"user-app-1"},"addressType":"IPv4","ports":[{"name":"http","port":8080}],
     "endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true},"targetRef":{"kind":"Pod","name":"user-app-a"}}]}]}"#;

/// A stack whose web app is ready and whose monitoring is `installed`, and nothing else.
fn stack(sandbox: &Sandbox, installed: &'static [&'static str]) {
    let (server, _) = api_server(move |request| {
        let path = request.split_whitespace().nth(1).unwrap_or_default();
        match path {
            "/api/v1/namespaces/user-app/services/user-app" if installed.contains(&"web") => (200, SERVICE.into()),
            "/api/v1/namespaces/user-app/configmaps/stackctl-inventory" if !installed.is_empty() => {
                let object = r#"[{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"namespace\":\"a\",\"name\":\"b\"}]"#;
                let data: Vec<String> = installed.iter().map(|part| format!(r#""{part}":"{object}""#)).collect();
                let data = data.join(",");
                (
                    200,
                    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"i"}},"data":{{{data}}}}}"#),
                )
            }
            path if path.contains("/endpointslices") => (200, ENDPOINTS.into()),
            path if path.contains("/namespaces/") => not_found(path.rsplit('/').next().unwrap_or_default()),
            _ => (200, NO_KINDS.into()),
        }
    });
    kubeconfig(sandbox, &server);
}

#[test]
fn a_port_that_is_taken_is_refused_before_the_cluster_is_asked() {
    let sandbox = Sandbox::bare();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let shown = sandbox.run(&["open", "--context", "prod", "--port", &port]);
    let shown = shown.replace(&port, "[PORT]").replace(&std::process::id().to_string(), "[PID]");
    // The name of a program is cut off after 15 letters by Linux, and this test's has a digest.
    let (start, rest) = shown.split_once("in use by ").unwrap();
    let rest = rest.split_once('(').map_or(rest, |(_, rest)| rest);
    snapshot!(format!("{start}in use by ([…] {rest}"), @r"
    exit code 2
    -- stderr
    error: port [PORT] of this machine is in use by ([…] process [PID])
      try: name another port with --port, or none: then a free one is taken
    ");
}

#[test]
fn a_stack_that_is_not_installed() {
    let sandbox = Sandbox::bare();
    stack(&sandbox, &[]);
    snapshot!(sandbox.run(&["open", "--context", "prod"]), @r"
    exit code 1
    -- stderr
    error: the stack is not installed on context prod
      try: stackctl --context prod up installs it
    ");
}

#[test]
fn a_stack_without_monitoring() {
    let sandbox = Sandbox::bare();
    stack(&sandbox, &["base", "web"]);
    snapshot!(sandbox.run(&["grafana", "--context", "prod"]), @r"
    exit code 1
    -- stderr
    error: Grafana is not installed on context prod: the stack was brought up without it
      try: stackctl --context prod up, without --without monitoring, adds it
    ");
    snapshot!(sandbox.run(&["prometheus", "--context", "prod", "-o", "json"]), @r#"
    exit code 1
    -- stdout
    {"event":"error","exit_code":1,"kind":"failed","message":"Prometheus is not installed on context prod: the stack was brought up without it","remedies":["stackctl --context prod up, without --without monitoring, adds it"]}
    "#);
}

#[test]
fn monitoring_from_a_bundle_that_has_no_grafana() {
    let sandbox = Sandbox::bare();
    stack(&sandbox, &["base", "web", "monitoring"]);
    snapshot!(sandbox.run(&["grafana", "--context", "prod"]), @r"
    exit code 1
    -- stderr
    error: Grafana is not there on context prod: it was deleted, or the bundle that the stack was brought up from has none
      try: stackctl --context prod up puts it back; where the bundle has none, without --bundle (the nodes pull the image then)
    ");
}

/// Runs `stackctl open` until it has told its address and is `interrupted`; what it printed, and its exit code.
fn open_and_interrupt(sandbox: &Sandbox, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = sandbox.command(&[&["open", "--context", "prod"], arguments].concat());
    command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    assert!(first.contains("http://127.0.0.1:"), "{first}");
    // A browser that fails is told within two seconds.
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let mut output = child.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    output.stdout = first.into_bytes();
    sandbox.shown(&output)
}

#[test]
fn without_a_display_the_address_is_told_and_ctrl_c_is_the_end() {
    let sandbox = Sandbox::bare();
    stack(&sandbox, &["base", "web"]);
    snapshot!(open_and_interrupt(&sandbox, &["--no-browser"], &[("DISPLAY", ":0")]), @r"
    exit code 0
    -- stdout
    address  http://127.0.0.1:[PORT]/
    -- stderr
    [open] the user app at http://127.0.0.1:[PORT]/, Ctrl-C ends it …
    [open] the user app: closed, 0 connections were made ([TIME])
    ");
    snapshot!(open_and_interrupt(&sandbox, &["-o", "json"], &[("DISPLAY", ":0")]), @r#"
    exit code 0
    -- stdout
    {"address":"http://127.0.0.1:[PORT]/","event":"opened","service":"user-app/user-app","site":"open"}
    "#);
    assert!(sandbox.calls().is_empty());
}

#[test]
fn a_browser_is_opened_where_there_is_one_and_its_lack_stops_nothing() {
    let sandbox = Sandbox::bare();
    stack(&sandbox, &["base", "web"]);
    snapshot!(open_and_interrupt(&sandbox, &[], &[("DISPLAY", ":0")]), @r"
    exit code 0
    -- stdout
    address  http://127.0.0.1:[PORT]/
    -- stderr
    [open] warning: no browser was opened: xdg-open is not installed: it is not in PATH; open the address yourself
    [open] the user app at http://127.0.0.1:[PORT]/, Ctrl-C ends it …
    [open] the user app: closed, 0 connections were made ([TIME])
    ");
    let sandbox = sandbox.fake("xdg-open", "");
    open_and_interrupt(&sandbox, &[], &[("WAYLAND_DISPLAY", "wayland-0")]);
    let calls = sandbox.calls();
    assert!(calls.len() == 1 && calls[0].starts_with("xdg-open http://127.0.0.1:"), "{calls:?}");
}
