//! From a dashboard's description to the JSON that Grafana 10 and later read.

use serde_json::{Value, json};

use super::{Dashboard, Kind, Panel};

/// The layout of the JSON, as Grafana 10 numbers it; later ones convert it when they read it.
const SCHEMA: u32 = 38;
const COLUMNS: u32 = 24;
/// The datasource that is provisioned beside the dashboards.
const PROMETHEUS: &str = "prometheus";

/// The JSON of a dashboard.
pub fn of(dashboard: &Dashboard) -> Value {
    json!({
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["stackctl"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": false,
        // One pointer for all panels: what happened at the same time stands under it.
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": format!("now-{}", dashboard.span), "to": "now"},
        "timezone": "browser",
        "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m"]},
        "templating": {"list": []},
        "annotations": {"list": [notes(), promotions()]},
        "links": [{
            "type": "dashboards", "title": "Other dashboards", "tags": ["stackctl"], "asDropdown": false,
            "keepTime": true, "includeVars": false, "targetBlank": false, "icon": "external link", "tooltip": "", "url": "",
        }],
        "panels": panels(dashboard),
    })
}

/// What a drill writes through Grafana's API.
fn notes() -> Value {
    json!({
        "name": "Drills", "type": "tags", "tags": ["failover-drill"], "matchAny": true, "enable": true, "hide": false,
        "iconColor": "red", "limit": 100, "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    })
}

/// What the operator writes into the Cluster: seen without a drill too.
fn promotions() -> Value {
    json!({
        "name": "New primary", "enable": true, "hide": false, "iconColor": "blue",
        "datasource": {"type": "prometheus", "uid": PROMETHEUS},
        "expr": "changes(cnpg_cluster_primary_since_timestamp_seconds[15s]) > 0",
        "step": "5s", "titleFormat": "New primary", "textFormat": "", "useValueForTime": false,
    })
}

fn panels(dashboard: &Dashboard) -> Vec<Value> {
    let (mut panels, mut y) = (Vec::new(), 0);
    for row in &dashboard.rows {
        if !row.title.is_empty() {
            let id = panels.len() + 1;
            panels.push(json!({
                "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }));
            y += 1;
        }
        let (mut x, mut line) = (0, 0);
        for panel in &row.panels {
            if x + panel.width > COLUMNS {
                (x, y, line) = (0, y + line, 0);
            }
            let id = panels.len() + 1;
            let at = json!({"x": x, "y": y, "w": panel.width, "h": panel.height});
            panels.push(one(panel, id, &at));
            x += panel.width;
            line = line.max(panel.height);
        }
        y += line;
    }
    panels
}

fn one(panel: &Panel, id: usize, at: &Value) -> Value {
    let (kind, options, custom) = drawing(&panel.kind);
    let instant = matches!(panel.kind, Kind::Name);
    let targets: Vec<Value> = panel
        .queries
        .iter()
        .zip("ABCDEFGH".chars())
        .map(|(query, letter)| {
            json!({
                "refId": letter.to_string(), "expr": query.expr, "legendFormat": query.legend, "instant": instant,
                "range": !instant, "datasource": {"type": "prometheus", "uid": PROMETHEUS},
            })
        })
        .collect();
    let description = match panel.only_under {
        Some(what) => format!("{} Only under: {what}.", panel.help),
        None => panel.help.to_owned(),
    };
    json!({
        "id": id, "type": kind, "title": panel.title, "description": description, "gridPos": at,
        "datasource": {"type": "prometheus", "uid": PROMETHEUS},
        "targets": targets,
        "fieldConfig": {"defaults": defaults(panel, &custom), "overrides": []},
        "options": options,
    })
}

fn defaults(panel: &Panel, custom: &Value) -> Value {
    let (mode, steps, mappings) = match &panel.kind {
        Kind::Number(colours) => ("thresholds", thresholds(colours), json!([])),
        Kind::Name => ("fixed", thresholds(&[(0.0, "blue")]), json!([])),
        Kind::States(states) => {
            let options: serde_json::Map<String, Value> = states
                .iter()
                .map(|(value, text, color)| (value.to_string(), json!({"text": text, "color": color, "index": value})))
                .collect();
            ("thresholds", thresholds(&[(0.0, "text")]), json!([{"type": "value", "options": options}]))
        }
        Kind::Lines | Kind::Stacked => ("palette-classic", thresholds(&[(0.0, "green")]), json!([])),
    };
    let mut color = json!({"mode": mode});
    if mode == "fixed" {
        color["fixedColor"] = json!("blue");
    }
    let mut defaults = json!({
        "unit": panel.unit, "color": color, "mappings": mappings, "custom": custom,
        "thresholds": {"mode": "absolute", "steps": steps},
    });
    if matches!(panel.kind, Kind::Lines | Kind::Stacked) {
        defaults["min"] = json!(0);
    }
    defaults
}

/// The first colour has no lower end.
fn thresholds(colours: &[(f64, &str)]) -> Value {
    let steps = colours.iter().enumerate().map(|(position, (value, color))| {
        json!({"color": color, "value": if position == 0 { Value::Null } else { json!(value) }})
    });
    Value::Array(steps.collect())
}

/// Grafana's type of panel, its options, and the part of the field's settings that belongs to the type.
fn drawing(kind: &Kind) -> (&'static str, Value, Value) {
    let tooltip = json!({"mode": "multi", "sort": "desc"});
    let legend = json!({"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []});
    let number = |text: &str, graph: &str| {
        json!({
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false}, "textMode": text,
            "colorMode": "value", "graphMode": graph, "justifyMode": "center", "orientation": "auto",
        })
    };
    match kind {
        Kind::Lines | Kind::Stacked => {
            let stacked = matches!(kind, Kind::Stacked);
            let custom = json!({
                "drawStyle": "line", "lineWidth": 1, "fillOpacity": if stacked { 40 } else { 8 }, "showPoints": "never",
                "spanNulls": false, "lineInterpolation": "linear", "axisPlacement": "auto",
                "stacking": {"mode": if stacked { "normal" } else { "none" }, "group": "A"},
            });
            ("timeseries", json!({"legend": legend, "tooltip": tooltip}), custom)
        }
        Kind::Number(_) => ("stat", number("value", "area"), json!({})),
        Kind::Name => ("stat", number("name", "none"), json!({})),
        Kind::States(_) => {
            let options = json!({
                "mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.8,
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": false}, "tooltip": tooltip,
            });
            ("state-timeline", options, json!({"lineWidth": 0, "fillOpacity": 80}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_do_not_overlap_and_have_ids_of_their_own() {
        for dashboard in super::super::all() {
            let json = of(&dashboard);
            let panels = json["panels"].as_array().unwrap();
            let area = |panel: &Value| {
                let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
                (at("x"), at("y"), at("x") + at("w"), at("y") + at("h"))
            };
            for (position, panel) in panels.iter().enumerate() {
                assert_eq!(panel["id"], position + 1);
                let (left, top, right, bottom) = area(panel);
                assert!(right <= u64::from(COLUMNS), "{}", panel["title"]);
                for other in &panels[position + 1..] {
                    let (l, t, r, b) = area(other);
                    let apart = r <= left || right <= l || b <= top || bottom <= t;
                    assert!(apart, "{} covers {}", panel["title"], other["title"]);
                }
            }
        }
    }
}
