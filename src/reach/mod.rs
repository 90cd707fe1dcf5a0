//! Reaching a page of the stack from this machine, for `open`, `grafana` and `prometheus`: waits until one of
//! its pods is ready, listens on a local port that leads there, tells the address, and opens a browser.

mod browser;
mod login;
mod port;
mod site;

use std::time::Instant;

use anyhow::Context as _;
use serde_json::json;

pub use site::Site;

use crate::{
    address::PublicAddress,
    cli::OpenArgs,
    context::Context,
    error::{Failure, Result, failed},
    kube::{
        ObjectRef,
        forward::{self, ForwardEvent, ForwardTarget, Forwarder},
        wait_ready,
    },
    progress,
    ui::{self, Event, PhaseId, Reporter, Style},
};

/// How often the number of connections is shown.
const SHOW_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// What the user asked for.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions<'a> {
    /// Of every such command.
    pub open: &'a OpenArgs,
    /// Print the password.
    pub show_password: bool,
}

/// A page that is reached: the port leads there until this is dropped.
pub struct OpenSession {
    forwarder: Forwarder,
    began: Instant,
}

/// Makes the way to `site` and tells the address on stdout.
///
/// # Errors
/// The stack or this part of it is not installed, the port is taken (exit code 2), or no pod becomes ready
/// (exit code 1 when none can, 5 at the deadline; both say why).
pub async fn reach(cx: &Context, site: &Site, options: OpenOptions<'_>, style: Style) -> Result<OpenSession> {
    // First what needs no cluster and is the user's to change.
    let listener = port::listen(options.open.port).await?;
    let target = find(cx, site).await?;
    if !target.has_ready_pod().await? {
        wait(cx, site).await?;
    }
    let login = match &site.login {
        Some(secret) => Some(login::read(cx.kube().await?, site, secret, options.show_password).await?),
        None => None,
    };
    let forwarder = forward::forward(target, listener, teller(cx.reporter.clone(), site.phase))?;
    let address = format!("http://{}{}", forwarder.address(), site.path);
    let public = public(cx, site).await;
    tell(site, &address, public.as_deref(), login.as_ref(), style);
    if style.mode != ui::Mode::Json && !options.open.no_browser && browser::possible() {
        open_browser(&cx.reporter, site, &address).await;
    }
    let title = format!("{} at {address}, Ctrl-C ends it", site.title);
    cx.reporter.send(Event::PhaseStarted { phase: site.phase, title });
    Ok(OpenSession { forwarder, began: Instant::now() })
}

/// The address of the web app for the outside, if it has one. Nobody needs it here.
async fn public(cx: &Context, site: &Site) -> Option<String> {
    if site.phase != PhaseId::Open {
        return None;
    }
    match PublicAddress::read(cx.kube().await.ok()?, &site.namespace).await {
        Ok(address) => Some(address?.url),
        Err(error) => {
            tracing::debug!("the app's address for the outside cannot be told: {}", crate::error::one_line(&error));
            None
        }
    }
}

/// Shows how many connections there are, for as long as it is polled.
pub async fn show(cx: &Context, site: &Site, session: &OpenSession) {
    let (mut ticks, mut shown) = (tokio::time::interval(SHOW_EVERY), (0, 0));
    loop {
        ticks.tick().await;
        let now = session.forwarder.connections();
        if now != shown {
            cx.doing(site.phase, format!("{} connections, {} open", now.0, now.1));
            shown = now;
        }
    }
}

/// Ends it, and says so.
pub fn close(cx: &Context, site: &Site, session: OpenSession) {
    let (made, _) = session.forwarder.connections();
    let (phase, title) = (site.phase, site.title.into());
    let outcome = format!("closed, {made} connections were made");
    let elapsed = session.began.elapsed();
    drop(session);
    cx.reporter.send(Event::PhaseDone { phase, title, outcome, elapsed });
}

/// The Service, or why it is not there.
async fn find(cx: &Context, site: &Site) -> Result<ForwardTarget> {
    let found = ForwardTarget::find(cx.kube().await?, &site.namespace, site.service, site.port).await?;
    match found {
        Some(target) => Ok(target),
        None => Err(absent(cx, site).await?.into()),
    }
}

async fn absent(cx: &Context, site: &Site) -> Result<Failure> {
    let inventory = cx.inventory().await?;
    let on = cx.config.target.describe();
    Ok(if inventory.parts().is_empty() {
        failed(format!("the stack is not installed on {on}")).remedy("stackctl up installs it")
    } else if inventory.entries(site.part.name()).is_empty() {
        failed(format!("{} is not installed on {on}: the stack was brought up without it", site.title))
            .remedy(format!("stackctl up, without --without {}, adds it", site.part))
    } else {
        let (why, remedy) = site.absent;
        failed(format!("{} is not there on {on}: {why}", site.title)).remedy(remedy)
    })
}

/// Waits until the workload behind the Service is ready, telling what is in the way.
async fn wait(cx: &Context, site: &Site) -> Result<()> {
    let kube = cx.kube().await?;
    let ObjectRef { kind, name, .. } = &site.workload;
    if kube.get(&site.workload).await?.is_none() {
        return Err(absent(cx, site).await?.into());
    }
    let (phase, title) = (site.phase, format!("{} is not ready yet: waiting", site.title));
    cx.reporter.send(Event::PhaseStarted { phase, title });
    let began = Instant::now();
    let observer = progress::observer(&cx.reporter, site.phase);
    let outcome = wait_ready(kube, std::slice::from_ref(&site.workload), cx.deadline, &observer).await;
    let ended = outcome.as_ref().map(|()| "ready".to_owned());
    cx.reporter.send(Event::phase_ended(site.phase, &format!("{kind} {name}"), ended, began.elapsed()));
    outcome.with_context(|| format!("{} is not ready", site.title))
}

fn tell(site: &Site, address: &str, public: Option<&str>, login: Option<&login::Login>, style: Style) {
    let (user, password) = (login.map(|login| &login.user), login.and_then(|login| login.password.as_ref()));
    if style.mode == ui::Mode::Json {
        let service = format!("{}/{}", site.namespace, site.service);
        let mut line = json!({"event": "opened", "site": site.phase, "address": address, "service": service});
        if let Some(public) = public {
            line["public"] = json!(public);
        }
        for (name, value) in [("user", user), ("password", password)] {
            if let Some(value) = value {
                line[name] = json!(value);
            }
        }
        ui::out(&line.to_string());
        return;
    }
    let mut rows = vec![("address".to_owned(), address.to_owned())];
    if let Some(public) = public {
        rows.push(("public".to_owned(), public.to_owned()));
    }
    if let Some(user) = user {
        let shown = password.cloned().unwrap_or_else(|| format!("stackctl {} --show-password", site.phase));
        rows.extend([("user".to_owned(), user.clone()), ("password".to_owned(), shown)]);
    }
    ui::out(&ui::table(&rows, "").join("\n"));
}

async fn open_browser(reporter: &Reporter, site: &Site, address: &str) {
    if let Err(error) = browser::open(address).await {
        let text = format!("no browser was opened: {}; open the address yourself", crate::error::one_line(&error));
        reporter.send(Event::Warning { phase: site.phase, text });
    }
}

/// Tells what happens to connections: what is worth knowing, and each thing once until it has passed.
fn teller(reporter: Reporter, phase: PhaseId) -> impl Fn(ForwardEvent) + Send + Sync {
    let told = std::sync::Mutex::new(None::<String>);
    move |event| {
        let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let trouble = matches!(event, ForwardEvent::Waiting(_) | ForwardEvent::Failed(_));
        let text = match event {
            ForwardEvent::Connected { pod } => match told.take() {
                Some(_) => format!("connected again, to pod {pod}"),
                None => return,
            },
            ForwardEvent::Moved { from, to } => {
                *told = None;
                format!("pod {from} is not ready any more: connections go to pod {to}")
            }
            ForwardEvent::Waiting(why) => format!("{why}: connections wait"),
            ForwardEvent::Failed(why) => why,
            ForwardEvent::Slept(slept) => {
                let minutes = slept.as_secs_f64() / 60.0;
                format!("this machine slept for {minutes:.1} min: open connections were closed, new ones work")
            }
        };
        if trouble && told.as_ref() == Some(&text) {
            return;
        }
        if trouble {
            *told = Some(text.clone());
        }
        reporter.send(Event::Warning { phase, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_once_and_its_end_too() {
        let (reporter, mut events) = Reporter::channel();
        let tell = teller(reporter, PhaseId::Open);
        let connected = || ForwardEvent::Connected { pod: "b".into() };
        let waiting = || ForwardEvent::Waiting("no ready pod".into());
        tell(connected());
        tell(waiting());
        tell(waiting());
        tell(connected());
        tell(connected());
        tell(ForwardEvent::Moved { from: "a".into(), to: "b".into() });
        let mut texts = Vec::new();
        while let Ok(Event::Warning { text, .. }) = events.try_recv() {
            texts.push(text);
        }
        assert_eq!(
            texts,
            [
                "no ready pod: connections wait",
                "connected again, to pod b",
                "pod a is not ready any more: connections go to pod b"
            ]
        );
    }
}
