//! Routes: how two sites relate, read in both directions.

use crate::context::{Context, UNKNOWN_NETWORK};
use crate::facts::{Facts, Shape, plain};
use crate::model::{Condition, When};
use crate::names::Kind;
use crate::net::Cidr;
use crate::plans::condition;
use crate::sites::SiteModel;
use crate::suggest::{certainty, listed, nearest};
use crate::value::{Type, Value};
use muster_diagnostics::{Diagnostic, Span};
use muster_runsheet::{Carriers, NetworkPair, RouteSheet, TestNetwork};
use muster_syntax::ast::{self, End, ExprKind, Item, PairTest};
use std::collections::BTreeMap;
use std::net::IpAddr;

const ROUTE: Shape = Shape {
    what: "a route",
    known: &["vault", "vault-at", "through", "target"],
    required: &["vault"],
    conditional: &["through", "target"],
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteModel {
    pub sheet: RouteSheet,
    /// The site the vault lives at, when the plans say so.
    pub vault_at: Option<(String, Span)>,
    pub span: Span,
    /// Where each of its `resolver` lines is, in their order.
    pub resolver_spans: Vec<Span>,
    pub broken: bool,
}

impl RouteModel {
    pub(crate) fn joins(&self, a: &str, b: &str) -> bool {
        let (left, right) = (self.sheet.left.as_str(), self.sheet.right.as_str());
        (left == a && right == b) || (left == b && right == a)
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
    if let (Some(text), Some(fact)) = (&vault, facts.get("vault"))
        && let Some(expr) = plain(cx, fact)
    {
        crate::vault_url::check(cx, text, expr.span);
    }
    let vault_at = facts.get("vault-at").and_then(|fact| {
        let expr = plain(cx, fact)?;
        match cx.expect(module, &Context::no_env(), expr, &Type::Named(Kind::Site))? {
            Value::Named(_, name) => Some((name, expr.span)),
            _ => None,
        }
    });
    let (through, target) = (read_carriers(cx, module, &facts, "through"), read_carriers(cx, module, &facts, "target"));
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
        resolvers: pairs.resolvers.iter().map(|(left, right, _)| (*left, *right)).collect(),
        rightward: Carriers { through: carriers(&through, When::Out), target: carriers(&target, When::Out) },
        leftward: Carriers { through: carriers(&through, When::Back), target: carriers(&target, When::Back) },
    };
    let span = route.left.span.to(route.right.span);
    let resolver_spans = pairs.resolvers.iter().map(|(_, _, span)| *span).collect();
    Some(RouteModel { sheet, vault_at, span, resolver_spans, broken: cx.errors() > before || cx.is_unread(route.span) })
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

/// The servers that carry data, by condition; `when back` is from right to left.
fn read_carriers(cx: &Context<'_>, module: usize, facts: &Facts<'_>, word: &str) -> Vec<(Condition, Vec<String>)> {
    let read = |fact: &ast::Fact| {
        let condition = match &fact.when {
            Some(when) => {
                let condition = condition(cx, module, when, true)?;
                if !condition.0.iter().all(|when| matches!(when, When::Out | When::Back)) {
                    return cx.report(
                        Diagnostic::error(602, "a route varies by direction only", when.span, "not a direction")
                            .help("write `when out` or `when back`"),
                    );
                }
                condition
            }
            None => Condition::default(),
        };
        let expr = plain(cx, fact)?;
        let ExprKind::List(items) = &expr.kind else {
            return cx.report(
                Diagnostic::error(211, format!("`{word}` is a list of servers"), expr.span, "not a list")
                    .help(format!("write `{word} = [ps-hq]`: the names the servers enrolled with")),
            );
        };
        let names: Option<Vec<String>> = items.iter().map(|item| carrier(cx, item)).collect();
        Some((condition, names?))
    };
    facts.all(word).filter_map(read).collect()
}

/// A server is no item of the plans: its name is the one it enrolled with.
fn carrier(cx: &Context<'_>, item: &ast::Expr) -> Option<String> {
    match &item.kind {
        ExprKind::Ref(reference) if reference.path.is_empty() => Some(reference.head.text.clone()),
        ExprKind::Text(text) if !text.text.is_empty() => Some(text.text.clone()),
        _ => cx.report(
            Diagnostic::error(211, "this is not the name of a server", item.span, "wrong kind")
                .help("write the name it enrolled with: `ps-hq`"),
        ),
    }
}

/// Those of one direction: named for it, else those named for none.
fn carriers(all: &[(Condition, Vec<String>)], direction: When) -> Vec<String> {
    let named = all.iter().find(|(condition, _)| condition.0.contains(&direction));
    let found = named.or_else(|| all.iter().find(|(condition, _)| condition.0.is_empty()));
    found.map(|(_, names)| names.clone()).unwrap_or_default()
}

#[derive(Default)]
struct Pairs {
    networks: Vec<NetworkPair>,
    addresses: Vec<(IpAddr, IpAddr, Span)>,
    resolvers: Vec<(IpAddr, IpAddr, Span)>,
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
        let test = match &pair.test {
            Some(PairTest::Network(test)) => test_network(cx, left, right, (a, b), test),
            Some(PairTest::Isolated(_)) | None => Some(TestNetwork::Isolated),
        };
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
        self.networks.push(NetworkPair { left, right, test: test? });
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
        let taken = if pair.resolver { &mut self.resolvers } else { &mut self.addresses };
        if let Some((known, _, first)) = taken.iter().find(|(x, y, _)| *x == a || *y == b) {
            let (word, at) = if *known == a { (a, &left.sheet.name) } else { (b, &right.sheet.name) };
            return cx.report(not_one_to_one(&word.to_string(), at.as_str(), pair.span, *first));
        }
        if a.is_ipv4() != b.is_ipv4() {
            return cx.report(
                Diagnostic::error(504, "an IPv4 and an IPv6 address cannot be a pair", pair.span, "two families")
                    .help("pair each address with one of its own family"),
            );
        }
        if pair.resolver {
            taken.push((a, b, pair.span));
            return Some(());
        }
        // A resolver may live anywhere (above); a machine's address has to lie in a network of its site.
        for (site, ip, span) in [(left, a, a_span), (right, b, b_span)] {
            if site.broken {
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

/// `test web-test`: a network of one end that is there for tests.
fn test_network(
    cx: &Context<'_>,
    left: &SiteModel,
    right: &SiteModel,
    (a, b): (&ast::Name, &ast::Name),
    test: &ast::Name,
) -> Option<TestNetwork> {
    // The drill stands at the far end most often, so that end is looked at first.
    let at_left = !right.networks.contains_key(&test.text) && left.networks.contains_key(&test.text);
    let (site, own) = if at_left { (left, a) } else { (right, b) };
    if !site.networks.contains_key(&test.text) && !site.broken {
        return cx.report(unknown_network(site, test, &["isolated"]));
    }
    let cidr = network_of(cx, site, test)?;
    let production = |name: &str| {
        let machines = cx.machines.values().filter_map(|entry| entry.at.get(&site.sheet.name));
        machines.flat_map(|facts| &facts.nics).any(|nic| nic.network.as_str() == name)
    };
    if test.text == own.text || production(&test.text) {
        return cx.report(
            Diagnostic::error(
                509,
                format!("`{}` is a network of production", test.text),
                test.span,
                "a drill would meet the machines it copies",
            )
            .related(site.span, "of this site")
            .help("name a network that is there for tests, or write `test isolated`"),
        );
    }
    if !site.test_networks && !site.broken {
        return cx.report(
            Diagnostic::error(
                515,
                format!("provider `{}` drills in isolated networks only", site.sheet.provider),
                test.span,
                "a network for tests",
            )
            .related(site.span, "the site of this network")
            .help("write `test isolated`: a copy with the same addresses and no way out"),
        );
    }
    let (known, _) = site.networks.get(&own.text)?;
    if known.prefix() < cidr.prefix() {
        cx.push(
            Diagnostic::warning(
                505,
                format!("`{}` is smaller than `{}`", test.text, own.text),
                test.span,
                "sizes differ",
            )
            .note(format!("`{}` is a /{}, `{}` is a /{}", own.text, known.prefix(), test.text, cidr.prefix()))
            .help("machines whose host part does not fit have no address in a drill: make both the same size"),
        );
    }
    Some(TestNetwork::Network { network: test.text.as_str().into(), site: site.sheet.name.clone() })
}

fn not_one_to_one(word: &str, site: &str, span: Span, first: Span) -> Diagnostic {
    Diagnostic::error(504, format!("`{word}` of `{site}` is paired twice"), span, "the second pair")
        .related(first, "the first pair")
        .note("a route is read in both directions: on the way home this pair would have to guess")
        .help("pair each network and each address with exactly one at the other site")
}

/// The network of this site that was meant, or one of the `words` that may stand in its place.
pub(crate) fn unknown_network(site: &SiteModel, name: &ast::Name, words: &[&str]) -> Diagnostic {
    let message = format!("site `{}` has no network `{}`", site.sheet.name, name.text);
    let diagnostic = Diagnostic::error(201, message, name.span, UNKNOWN_NETWORK);
    let networks = || site.networks.keys().map(String::as_str);
    match nearest(&name.text, networks().chain(words.iter().copied())) {
        Some(near) => {
            // A word of the language is certain where no network is as near.
            let all: Vec<&str> = networks().chain(words.iter().copied()).collect();
            let closed = if words.contains(&near) { all } else { Vec::new() };
            let place = site.networks.get(near).map_or(site.span, |(_, span)| *span);
            let label = if site.networks.contains_key(near) { "declared here" } else { "the site" };
            diagnostic.related(place, label).help(format!("did you mean `{near}`?")).fix(
                name.span,
                near,
                certainty(&name.text, &closed),
            )
        }
        None => diagnostic.related(site.span, "the site").help(format!("it has {}", listed(networks()))),
    }
}

fn network_of(cx: &Context<'_>, site: &SiteModel, name: &ast::Name) -> Option<Cidr> {
    if let Some((cidr, _)) = site.networks.get(&name.text) {
        return Some(*cidr);
    }
    if site.broken {
        return None;
    }
    cx.report(unknown_network(site, name, &[]))
}
