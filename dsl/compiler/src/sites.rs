//! Sites with their networks, and the routes between them.

use crate::context::Context;
use crate::facts::{Facts, Shape, plain};
use crate::names::Kind;
use crate::net::{Cidr, CidrError};
use crate::suggest::{listed, nearest};
use crate::value::Value;
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{NetworkPair, NetworkShape, RouteSheet, SiteSheet, TestNetwork};
use muster_syntax::ast::{self, End, ExprKind, Item, PairTest};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Providers of this muster: the word in the plan, and what its address is.
pub(crate) const PROVIDERS: [&str; 2] = ["qemu", "simulated"];

const SITE: Shape = Shape { what: "a site", known: &["provider"], required: &["provider"], conditional: &[] };
const ROUTE: Shape = Shape { what: "a route", known: &["vault", "vault-at"], required: &["vault"], conditional: &[] };

#[derive(Clone, Debug)]
pub(crate) struct SiteModel {
    pub sheet: SiteSheet,
    pub networks: BTreeMap<String, (Cidr, Span)>,
    pub span: Span,
    /// Something in it could not be read; nothing is concluded from what is missing.
    pub broken: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct RouteModel {
    pub sheet: RouteSheet,
    /// The site the vault lives at, when the plans say so.
    pub vault_at: Option<(String, Span)>,
    pub span: Span,
    pub broken: bool,
}

impl RouteModel {
    pub(crate) fn joins(&self, a: &str, b: &str) -> bool {
        let (left, right) = (self.sheet.left.as_str(), self.sheet.right.as_str());
        (left == a && right == b) || (left == b && right == a)
    }
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

fn resolve_site(cx: &Context<'_>, module: usize, site: &ast::Site) -> SiteModel {
    let before = cx.errors();
    let facts = Facts::read(cx, &SITE, site.name.span, site.span, &site.facts);
    let provider = facts.expr(cx, "provider").and_then(|expr| resolve_provider(cx, module, expr));
    let networks = resolve_networks(cx, module, site);
    let (provider, agent) = provider.unwrap_or_default();
    let shapes = networks
        .iter()
        .map(|(name, (cidr, _))| NetworkShape { name: name.as_str().into(), cidr: cidr.to_string() })
        .collect();
    let sheet = SiteSheet { name: site.name.text.as_str().into(), provider, agent, networks: shapes, endpoint: None, login: None, labels: BTreeMap::new() };
    SiteModel { sheet, networks, span: site.name.span, broken: cx.errors() > before || cx.is_unread(site.span) }
}

/// `qemu("host:port")`.
fn resolve_provider(cx: &Context<'_>, module: usize, expr: &ast::Expr) -> Option<(String, String)> {
    let ExprKind::Call(call) = &expr.kind else {
        return cx.report(
            Diagnostic::error(211, "a provider is written with its address", expr.span, "not a provider")
                .help("write `qemu(\"host:port\")`: the address of the site agent"),
        );
    };
    let word = &call.callee.head;
    if !PROVIDERS.contains(&word.text.as_str()) {
        let diagnostic =
            Diagnostic::error(201, format!("there is no provider `{}`", word.text), word.span, "unknown provider");
        return cx.report(match nearest(&word.text, PROVIDERS) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(word.span, near, Applicability::Maybe),
            None => diagnostic.help(format!("this muster drives {}", listed(PROVIDERS))),
        });
    }
    let [address] = call.arguments.as_slice() else {
        return cx.report(
            Diagnostic::error(208, format!("`{}` takes one text", word.text), call.span, "wrong arguments")
                .help(format!("write `{}(\"host:port\")`: the address of the site agent", word.text)),
        );
    };
    let agent = cx.text(module, &Context::no_env(), &address.value)?;
    let port = agent.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
    if port.is_none_or(|port| port == 0) {
        return cx.report(
            Diagnostic::error(211, format!("`{agent}` is not `host:port`"), address.value.span, "no address")
                .help("name the site agent's host and TCP port: `\"10.77.1.2:7300\"`"),
        );
    }
    Some((word.text.clone(), agent))
}

fn resolve_networks(cx: &Context<'_>, module: usize, site: &ast::Site) -> BTreeMap<String, (Cidr, Span)> {
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
        if let Some(label) = &network.label {
            cx.text(module, &Context::no_env(), label);
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

pub(crate) fn resolve_routes(cx: &Context<'_>) -> Vec<RouteModel> {
    let mut routes: Vec<RouteModel> = Vec::new();
    for (module, file) in cx.modules.iter().enumerate() {
        for item in &file.ast.items {
            let Item::Route(route) = item else { continue };
            let Some(model) = resolve_route(cx, module, route) else { continue };
            let (left, right) = (model.sheet.left.as_str(), model.sheet.right.as_str());
            if let Some(first) = routes.iter().find(|known| known.joins(left, right)) {
                cx.push(
                    Diagnostic::error(
                        104,
                        format!("`{left}` and `{right}` have a route already"),
                        model.span,
                        "a second one",
                    )
                    .related(first.span, "the first"),
                );
                continue;
            }
            routes.push(model);
        }
    }
    routes
}

fn resolve_route(cx: &Context<'_>, module: usize, route: &ast::Route) -> Option<RouteModel> {
    let before = cx.errors();
    let facts = Facts::read(cx, &ROUTE, route.left.span.to(route.right.span), route.span, &route.facts);
    let left = cx.declared(module, &route.left, Kind::Site);
    let right = cx.declared(module, &route.right, Kind::Site);
    let vault = facts.expr(cx, "vault").and_then(|expr| cx.text(module, &Context::no_env(), expr));
    let vault_at = facts.get("vault-at").and_then(|fact| {
        let expr = plain(cx, fact)?;
        match cx.expect(module, &Context::no_env(), expr, &crate::value::Type::Named(Kind::Site))? {
            Value::Named(_, name) => Some((name, expr.span)),
            _ => None,
        }
    });
    let (left, right) = (left?, right?);
    if left.text == right.text {
        return cx.report(Diagnostic::error(
            504,
            format!("`{}` cannot be both ends of a route", left.text),
            route.right.span,
            "the same site",
        ));
    }
    let (left, right) = (cx.sites.get(&left.text)?, cx.sites.get(&right.text)?);
    let mut pairs = Pairs::default();
    // Addresses first: they say which machines need no room in the other network.
    let is_address = |pair: &&ast::Pair| matches!(pair.left, End::Ip(..));
    for pair in route.pairs.iter().filter(is_address).chain(route.pairs.iter().filter(|pair| !is_address(pair))) {
        pairs.add(cx, left, right, pair);
    }
    let sheet = RouteSheet {
        left: left.sheet.name.clone(),
        right: right.sheet.name.clone(),
        vault: vault.map(|vault| absolute(cx, &vault)).unwrap_or_default(),
        networks: pairs.networks,
        addresses: pairs.addresses.iter().map(|(left, right, _)| (*left, *right)).collect(),
        resolvers: Vec::new(),
        rightward: Default::default(),
        leftward: Default::default(),
    };
    let span = route.left.span.to(route.right.span);
    Some(RouteModel { sheet, vault_at, span, broken: cx.errors() > before || cx.is_unread(route.span) })
}

/// A path without a scheme, or `file:` with a relative one, is relative to the folder of the plans.
fn absolute(cx: &Context<'_>, vault: &str) -> String {
    let path = match vault.split_once("://") {
        Some(("file", path)) => path,
        Some(_) => return vault.to_owned(),
        None => vault.strip_prefix("file:").unwrap_or(vault),
    };
    match cx.world.folder() {
        _ if path.starts_with('/') => format!("file://{}", crate::load::normal(path)),
        Some(folder) => format!("file://{}", crate::load::normal(&format!("{folder}/{path}"))),
        None => vault.to_owned(),
    }
}

#[derive(Default)]
struct Pairs {
    networks: Vec<NetworkPair>,
    addresses: Vec<(IpAddr, IpAddr, Span)>,
    spans: BTreeMap<String, Span>,
}

impl Pairs {
    fn add(&mut self, cx: &Context<'_>, left: &SiteModel, right: &SiteModel, pair: &ast::Pair) -> Option<()> {
        match (&pair.left, &pair.right) {
            (End::Network(a), End::Network(b)) => self.add_networks(cx, left, right, pair, a, b),
            (End::Ip(a, a_span), End::Ip(b, b_span)) => {
                let parse = |text: &str, span: Span| match text.parse::<IpAddr>() {
                    Ok(ip) => Some(ip),
                    Err(_) => cx.report(
                        Diagnostic::error(211, format!("`{text}` is not an address"), span, "out of range")
                            .help("each part of an IPv4 address is from 0 to 255"),
                    ),
                };
                let (a, b) = (parse(a, *a_span), parse(b, *b_span));
                self.add_addresses(cx, left, right, pair, (a?, *a_span), (b?, *b_span))
            }
            (End::Network(name), End::Ip(_, span)) | (End::Ip(_, span), End::Network(name)) => cx.report(
                Diagnostic::error(211, "a network and an address cannot be a pair", pair.span, "different things")
                    .related(name.span, "a network")
                    .related(*span, "an address"),
            ),
        }
    }

    fn add_networks(
        &mut self,
        cx: &Context<'_>,
        left: &SiteModel,
        right: &SiteModel,
        pair: &ast::Pair,
        a: &ast::Name,
        b: &ast::Name,
    ) -> Option<()> {
        let (known_left, known_right) = (network_of(cx, left, a), network_of(cx, right, b));
        if let Some(PairTest::Network(test)) = &pair.test {
            cx.push(
                Diagnostic::error(
                    515,
                    "the providers of this muster drill in isolated networks only",
                    test.span,
                    "a network for tests",
                )
                .help("write `test isolated`: a copy with the same addresses and no way out"),
            );
        }
        let (known_left, known_right) = (known_left?, known_right?);
        let clash = self.networks.iter().find(|known| known.left.as_str() == a.text || known.right.as_str() == b.text);
        if let Some(clash) = clash {
            let (word, at) =
                if clash.left.as_str() == a.text { (&a.text, &left.sheet.name) } else { (&b.text, &right.sheet.name) };
            let first = self.spans.get(clash.left.as_str()).copied().unwrap_or(pair.span);
            return cx.report(not_one_to_one(word, at.as_str(), pair.span, first));
        }
        self.check_sizes(cx, (a, known_left), (b, known_right), left, pair.span);
        self.spans.insert(a.text.clone(), pair.span);
        let (left, right) = (a.text.as_str().into(), b.text.as_str().into());
        self.networks.push(NetworkPair { left, right, test: TestNetwork::Isolated });
        Some(())
    }

    /// Networks of different size: an error when a known machine does not fit, else a warning.
    fn check_sizes(
        &self,
        cx: &Context<'_>,
        (a, left): (&ast::Name, Cidr),
        (b, right): (&ast::Name, Cidr),
        site: &SiteModel,
        span: Span,
    ) {
        if left.prefix() == right.prefix() {
            return;
        }
        let sizes = format!("`{}` is a /{}, `{}` is a /{}", a.text, left.prefix(), b.text, right.prefix());
        let machines = cx.machines.iter().filter_map(|(name, entry)| Some((name, entry.at.get(&site.sheet.name)?)));
        let misfit = machines.into_iter().find_map(|(name, facts)| {
            let nic = facts.nics.iter().find(|nic| nic.network.as_str() == a.text)?;
            let ip = nic.ip.filter(|ip| !self.addresses.iter().any(|(known, _, _)| known == ip))?;
            left.carry(ip, &right).is_none().then_some((name, ip))
        });
        cx.push(match misfit {
            Some((name, ip)) => {
                Diagnostic::error(505, format!("`{name}` at {ip} has no place in `{}`", b.text), span, "sizes differ")
                    .note(sizes)
                    .help(format!("pair its address by itself: `{ip} <-> …`, or make `{}` larger", b.text))
            }
            None => Diagnostic::warning(505, "these networks differ in size", span, "sizes differ")
                .note(sizes)
                .help("machines added later may not fit: make both the same size"),
        });
    }

    fn add_addresses(
        &mut self,
        cx: &Context<'_>,
        left: &SiteModel,
        right: &SiteModel,
        pair: &ast::Pair,
        (a, a_span): (IpAddr, Span),
        (b, b_span): (IpAddr, Span),
    ) -> Option<()> {
        if let Some((known, _, first)) = self.addresses.iter().find(|(x, y, _)| *x == a || *y == b) {
            let (word, at) = if *known == a { (a, &left.sheet.name) } else { (b, &right.sheet.name) };
            return cx.report(not_one_to_one(&word.to_string(), at.as_str(), pair.span, *first));
        }
        // A resolver may live anywhere; a machine's address has to lie in a network of its site.
        for (site, ip, span) in [(left, a, a_span), (right, b, b_span)] {
            if pair.resolver || site.broken {
                continue;
            }
            let network = site.networks.iter().find(|(_, (cidr, _))| cidr.contains(ip));
            let wrong = match network {
                None => Some(format!("{ip} is in no network of `{}`", site.sheet.name)),
                Some((name, (cidr, _))) if cidr.is_reserved(ip) => {
                    Some(format!("{ip} is the network, gateway or broadcast address of `{name}`"))
                }
                Some(_) => None,
            };
            if let Some(wrong) = wrong {
                cx.push(Diagnostic::error(507, wrong, span, "cannot be a machine's address"));
            }
        }
        self.addresses.push((a, b, pair.span));
        Some(())
    }
}

fn not_one_to_one(word: &str, site: &str, span: Span, first: Span) -> Diagnostic {
    Diagnostic::error(504, format!("`{word}` of `{site}` is paired twice"), span, "the second pair")
        .related(first, "the first pair")
        .note("a route is read in both directions: on the way home this pair would have to guess")
        .help("pair each network and each address with exactly one at the other site")
}

fn network_of(cx: &Context<'_>, site: &SiteModel, name: &ast::Name) -> Option<Cidr> {
    if let Some((cidr, _)) = site.networks.get(&name.text) {
        return Some(*cidr);
    }
    if site.broken {
        return None;
    }
    let diagnostic = Diagnostic::error(
        201,
        format!("site `{}` has no network `{}`", site.sheet.name, name.text),
        name.span,
        "unknown network",
    )
    .related(site.span, "the site");
    cx.report(match nearest(&name.text, site.networks.keys().map(String::as_str)) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(name.span, near, Applicability::Maybe),
        None => diagnostic.help(format!("it has {}", listed(site.networks.keys().map(String::as_str)))),
    })
}
