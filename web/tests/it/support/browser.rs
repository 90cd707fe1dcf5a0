//! A real browser: Chromium without a window, driven by ChromeDriver through the W3C's WebDriver protocol. A
//! crate for that would bring two dozen others, for the ten commands that are used here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{MutexGuard, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use testbed::http::Client;
use testbed::keeper::{Keeper, Signal};
use testbed::programs::made;

use super::eventually;

/// The protocol's name for the member that holds an element's reference.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Keys, as the protocol writes them.
pub const TAB: char = '\u{E004}';
pub const ENTER: char = '\u{E007}';
pub const SPACE: char = ' ';
pub const DOWN: char = '\u{E015}';
pub const END: char = '\u{E010}';

/// How a browser is used.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// The user prefers dark colours.
    pub dark: bool,
    /// JavaScript is on.
    pub script: bool,
}

/// On a desk, bright, with JavaScript.
pub const DESKTOP: Look = Look { width: 1280, height: 800, dark: false, script: true };
/// A phone held upright.
pub const PHONE: Look = Look { width: 390, height: 844, dark: false, script: true };
/// The width at which WCAG wants all to be there without scrolling sideways (1.4.10): a desk at 400 %.
pub const NARROW: Look = Look { width: 320, height: 640, dark: false, script: true };

/// A browser of its own; one at a time. Ended with the value, or with the test run at the latest.
pub struct Browser {
    session: String,
    client: std::cell::RefCell<Client>,
    profile: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// An element of the page that is shown.
pub struct Element<'a> {
    browser: &'a Browser,
    path: String,
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("no {name}: these tests need the packages `chromium` and `chromium-driver`"))
}

/// The driver of all browsers of this run.
fn driver() -> SocketAddr {
    static DRIVER: OnceLock<(SocketAddr, Keeper)> = OnceLock::new();
    let (address, _) = DRIVER.get_or_init(|| {
        let address = SocketAddr::from(([127, 0, 0, 1], testbed::free_port()));
        let mut command = Command::new(program("chromedriver"));
        command.arg(format!("--port={}", address.port()));
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chromedriver.log");
        let keeper = Keeper::start(&command, Some(&log), Signal::Term, None).unwrap();
        let ready = || Client::new(address).send("GET", "/status", &[], "").is_ok_and(|answer| answer.status == 200);
        eventually("ChromeDriver answers", Duration::from_secs(20), ready);
        (address, keeper)
    });
    *address
}

impl Browser {
    /// Starts one.
    pub fn open(look: Look) -> Self {
        let alone = super::alone();
        let profile = tempfile::tempdir().unwrap();
        let size = format!("--window-size={},{}", look.width, look.height);
        let data = format!("--user-data-dir={}", profile.path().display());
        // It is to speak to the app alone, and runs as root where the tests do.
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--disable-sync",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-default-apps",
            "--no-first-run",
            "--hide-scrollbars",
            &size,
            &data,
        ];
        let options = json!({"binary": program("chromium"), "args": args});
        let always = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let client = std::cell::RefCell::new(Client::new(driver()));
        let mut browser = Self { session: String::new(), client, profile, _alone: alone };
        let started = browser.call("POST", "/session", &json!({"capabilities": {"alwaysMatch": always}}));
        browser.session = format!("/session/{}", started["sessionId"].as_str().unwrap());
        let metrics =
            json!({"width": look.width, "height": look.height, "deviceScaleFactor": 2, "mobile": look.width < 500});
        browser.chromium("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.chromium("Emulation.setEmulatedMedia", &media);
        browser.chromium("Emulation.setScriptExecutionDisabled", &json!({"value": !look.script}));
        browser
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let headers = [("content-type", "application/json")];
        let answer = self.client.borrow_mut().send(method, path, &headers, &body).unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        answer.json()["value"].take()
    }

    fn at(&self, command: &str) -> String {
        format!("{}{command}", self.session)
    }

    /// A command of Chromium's own protocol.
    fn chromium(&self, command: &str, params: &Value) -> Value {
        self.call("POST", &self.at("/goog/cdp/execute"), &json!({"cmd": command, "params": params}))
    }

    /// Goes to an address.
    pub fn go(&self, url: &str) {
        self.call("POST", &self.at("/url"), &json!({"url": url}));
    }

    /// The path and query of the page that is shown.
    pub fn path(&self) -> String {
        let url = self.call("GET", &self.at("/url"), &Value::Null);
        let url = url.as_str().unwrap();
        url.splitn(4, '/').nth(3).map_or_else(|| url.to_owned(), |path| format!("/{path}"))
    }

    /// The page's title.
    pub fn title(&self) -> String {
        self.call("GET", &self.at("/title"), &Value::Null).as_str().unwrap().to_owned()
    }

    /// The first element that a CSS selector finds; there must be one.
    pub fn find(&self, selector: &str) -> Element<'_> {
        self.try_find(selector).unwrap_or_else(|| panic!("no {selector} on {}", self.path()))
    }

    /// The first element that a CSS selector finds, if any.
    pub fn try_find(&self, selector: &str) -> Option<Element<'_>> {
        let body = json!({"using": "css selector", "value": selector});
        let found = self.call("POST", &self.at("/elements"), &body);
        Some(self.element(found.as_array()?.first()?))
    }

    /// The element that has the focus.
    pub fn focused(&self) -> Element<'_> {
        self.element(&self.call("GET", &self.at("/element/active"), &Value::Null))
    }

    /// Does what leads to another page, such as a click on a link, and waits until that is there.
    pub fn leave(&self, by: impl FnOnce()) {
        let before = self.find("html");
        by();
        eventually("another page", Duration::from_secs(20), || before.is_gone());
    }

    fn element(&self, reference: &Value) -> Element<'_> {
        Element { browser: self, path: self.at(&format!("/element/{}", reference[ELEMENT].as_str().unwrap())) }
    }

    /// Types on the keyboard, wherever the focus is.
    pub fn keys(&self, keys: &str) {
        let press = |key: char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        let keyboard = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.call("POST", &self.at("/actions"), &keyboard);
    }

    /// How many pixels the page is wider than the window.
    pub fn overflow(&self) -> i64 {
        let script = "const e = document.scrollingElement; return e.scrollWidth - e.clientWidth";
        self.call("POST", &self.at("/execute/sync"), &json!({"script": script, "args": []})).as_i64().unwrap()
    }

    /// What axe-core finds wrong with the page by WCAG 2.2, level AA: the rule, what it says, and where.
    pub fn barriers(&self) -> Vec<String> {
        static AXE: OnceLock<String> = OnceLock::new();
        let axe = AXE.get_or_init(|| std::fs::read_to_string(made("axe/axe.min.js", "axe")).unwrap());
        // A page may not load scripts from elsewhere, and this one does not: the driver runs it.
        let script = format!(
            "{axe}\nconst done = arguments[0];\n\
             const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];\n\
             axe.run(document, {{runOnly: tags}}).then(found => done({{violations: found.violations, \
             passes: found.passes.length}}), error => done({{error: String(error)}}));"
        );
        let found = self.call("POST", &self.at("/execute/async"), &json!({"script": script, "args": []}));
        assert!(found["passes"].as_u64().is_some_and(|rules| rules > 0), "axe-core has looked at nothing: {found}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let barrier = |rule: &Value| {
            let places: Vec<String> =
                rule["nodes"].as_array().unwrap().iter().map(|node| text(&node["html"])).collect();
            format!("{}: {} in {}", text(&rule["id"]), text(&rule["help"]), places.join(", "))
        };
        found["violations"].as_array().unwrap().iter().map(barrier).collect()
    }

    /// What the browser complained about since this was last asked: blocked styles and scripts among it.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.call("POST", &self.at("/se/log"), &json!({"type": "browser"}));
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// A picture of the whole page, kept under this name; returns its folder.
    pub fn screenshot(&self, name: &str) -> PathBuf {
        let shot = self.chromium("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        let picture = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
        folder
    }
}

impl Element<'_> {
    /// The element's text, as shown.
    pub fn text(&self) -> String {
        self.get("text")
    }

    /// The value of a property of it; empty when it has none.
    pub fn property(&self, name: &str) -> String {
        self.get(&format!("property/{name}"))
    }

    fn get(&self, what: &str) -> String {
        let value = self.browser.call("GET", &format!("{}/{what}", self.path), &Value::Null);
        value.as_str().map_or_else(|| value.as_bool().map_or_else(String::new, |b| b.to_string()), str::to_owned)
    }

    /// Whether its page is shown no more.
    fn is_gone(&self) -> bool {
        let asked = self.browser.client.borrow_mut().send("GET", &format!("{}/name", self.path), &[], "");
        asked.unwrap().status == 404
    }

    /// Clicks on it and waits for the page that this leads to.
    pub fn follow(&self) {
        self.browser.leave(|| self.click());
    }

    /// Clicks on it.
    pub fn click(&self) {
        self.browser.call("POST", &format!("{}/click", self.path), &json!({}));
    }

    /// Replaces its text.
    pub fn fill(&self, text: &str) {
        self.browser.call("POST", &format!("{}/clear", self.path), &json!({}));
        self.browser.call("POST", &format!("{}/value", self.path), &json!({"text": text}));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A driver that does not answer is ended with the run.
        let _ = self.client.borrow_mut().send("DELETE", &self.session, &[], "");
        let _ = &self.profile;
    }
}
