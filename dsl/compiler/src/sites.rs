//! Sites with their networks.

use crate::context::Context;
use crate::facts::{Facts, Shape};
use crate::net::{Cidr, CidrError};
use crate::providers::{provider, resolve_driver};
use crate::value::Value;
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{NetworkName, NetworkShape, SiteSheet};
use muster_syntax::ast::{self, Item};
use std::collections::BTreeMap;

const SITE: Shape = Shape { what: "a site", known: &["provider", "agent"], required: &["provider"], conditional: &[] };

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SiteModel {
    pub sheet: SiteSheet,
    pub networks: BTreeMap<String, (Cidr, Span)>,
    pub span: Span,
    /// A drill may be plugged into a network that is there for tests.
    pub test_networks: bool,
    /// Something in it could not be read; nothing is concluded from what is missing.
    pub broken: bool,
}

pub(crate) fn resolve_sites(cx: &mut Context<'_>) {
    let mut sites = BTreeMap::new();
    for module in 0..cx.modules.len() {
        for item in &cx.modules[module].ast.items {
            let Item::Site(site) = item else { continue };
            let model = resolve_site(cx, module, site);
            sites.entry(site.name.text.clone()).or_insert(model);
        }
    }
    cx.sites = sites;
}

/// The ranges of every site, for translating addresses again and again.
pub(crate) fn ranges(sites: &BTreeMap<String, SiteModel>) -> BTreeMap<String, Vec<(String, Cidr)>> {
    let of = |site: &SiteModel| site.networks.iter().map(|(name, (range, _))| (name.clone(), *range)).collect();
    sites.iter().map(|(name, site)| (name.clone(), of(site))).collect()
}

fn resolve_site(cx: &Context<'_>, module: usize, site: &ast::Site) -> SiteModel {
    let before = cx.errors();
    let facts = Facts::read(cx, &SITE, site.name.span, site.span, &site.facts);
    let driver = resolve_driver(cx, module, &facts);
    // Without a word of its own where a name in it is unknown because of a mistake elsewhere.
    let unread = driver.is_none() || cx.is_unread(site.span);
    let driver = driver.unwrap_or_default();
    let mut labels = BTreeMap::new();
    let networks = resolve_networks(cx, module, site, &mut labels);
    let shapes = networks
        .iter()
        .map(|(name, (cidr, _))| NetworkShape { name: name.as_str().into(), cidr: cidr.to_string() })
        .collect();
    // What the site has said of itself counts more than what its kind can do.
    let asked = cx.inventory.as_ref().and_then(|inventory| inventory.sites.get(site.name.text.as_str()));
    let test_networks = match asked {
        Some(found) => found.capabilities.test_networks,
        None => provider(driver.provider).is_some_and(|provider| provider.test_networks),
    };
    let sheet = SiteSheet {
        name: site.name.text.as_str().into(),
        provider: driver.provider.to_owned(),
        agent: driver.agent,
        networks: shapes,
        endpoint: driver.endpoint,
        login: driver.login,
        labels,
    };
    let broken = cx.errors() > before || unread;
    SiteModel { sheet, networks, span: site.name.span, test_networks, broken }
}

fn resolve_networks(
    cx: &Context<'_>,
    module: usize,
    site: &ast::Site,
    labels: &mut BTreeMap<NetworkName, String>,
) -> BTreeMap<String, (Cidr, Span)> {
    let mut networks: BTreeMap<String, (Cidr, Span)> = BTreeMap::new();
    for network in &site.networks {
        let name = &network.name;
        if let Some((_, first)) = networks.get(&name.text) {
            cx.push(
                Diagnostic::error(104, format!("network `{}` is given twice", name.text), name.span, "again here")
                    .related(*first, "first here"),
            );
            continue;
        }
        if let Some(label) = network.label.as_ref().and_then(|label| cx.text(module, &Context::no_env(), label)) {
            labels.insert(name.text.as_str().into(), label);
        }
        let Some(cidr) = resolve_cidr(cx, module, &network.cidr) else { continue };
        if let Some((other, (_, span))) = networks.iter().find(|(_, (known, _))| known.overlaps(&cidr)) {
            cx.push(
                Diagnostic::error(
                    506,
                    format!("`{}` overlaps `{other}`", name.text),
                    network.cidr.span,
                    "shares addresses",
                )
                .related(*span, "with this one")
                .help("give each network of a site addresses of its own"),
            );
            continue;
        }
        networks.insert(name.text.clone(), (cidr, name.span));
    }
    networks
}

fn resolve_cidr(cx: &Context<'_>, module: usize, expr: &ast::Expr) -> Option<Cidr> {
    let Value::Cidr(text) = cx.expect(module, &Context::no_env(), expr, &crate::value::Type::Cidr)? else {
        return None;
    };
    match Cidr::parse(&text) {
        Ok(cidr) => Some(cidr),
        Err(CidrError::Unaligned(network)) => cx.report(
            Diagnostic::error(
                501,
                format!("`{text}` is an address in a network, not a network"),
                expr.span,
                "not aligned",
            )
            .help(format!("the network is `{network}`"))
            .fix(expr.span, network.to_string(), Applicability::Maybe),
        ),
        Err(CidrError::Unreadable) => cx.report(
            Diagnostic::error(501, format!("`{text}` is not a network"), expr.span, "out of range")
                .help("write an address and a prefix length: `10.10.20.0/24`"),
        ),
    }
}
