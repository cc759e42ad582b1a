//! Values of the language while it is checked, their types, and the arithmetic of `let`.

use crate::context::Context;
use crate::names::Kind;
use crate::quantity;
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{Duration, Rate, Size};
use muster_syntax::ast::{self, Access, ArithmeticOperator, Expr, ExprKind};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Int(u64),
    Bool(bool),
    Duration(Duration),
    Size(Size),
    Rate(Rate),
    Percent(u64),
    /// A home address; translated by the route when a plan is compiled in a direction.
    Ip(IpAddr),
    Cidr(String),
    Mac(String),
    Machine(String),
    /// Any other name: a group, a site, a policy.
    Named(Kind, String),
    List(Vec<Value>),
}

/// What a parameter or a fact wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    Text,
    Int,
    Bool,
    Duration,
    Size,
    Rate,
    Percent,
    Ip,
    Cidr,
    Mac,
    Port,
    Machine,
    Named(Kind),
    List(Box<Type>),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Text => "text",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::Duration => "duration",
            Self::Size => "size",
            Self::Rate => "rate",
            Self::Percent => "percent",
            Self::Ip => "ip",
            Self::Cidr => "cidr",
            Self::Mac => "mac",
            Self::Port => "port",
            Self::Machine => "machine",
            Self::Named(kind) => kind.word(),
            Self::List(of) => return write!(f, "list({of})"),
        };
        f.write_str(word)
    }
}

impl Type {
    /// `a duration`, `an ip`.
    pub(crate) fn with_article(&self) -> String {
        let word = self.to_string();
        let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']);
        format!("{} {word}", if vowel { "an" } else { "a" })
    }
    fn is_quantity(&self) -> bool {
        matches!(self, Self::Duration | Self::Size | Self::Rate | Self::Percent)
    }
    /// Written as it is, without quotes.
    fn is_literal(&self) -> bool {
        self.is_quantity() || matches!(self, Self::Int | Self::Ip | Self::Cidr | Self::Mac | Self::Port)
    }
    fn is_reference(&self) -> bool {
        matches!(self, Self::Machine | Self::Named(_))
    }
    /// An example, for help lines.
    fn example(&self) -> &'static str {
        match self {
            Self::Duration => "`45s`, `45m` or `1h30m`",
            Self::Size => "`40GiB` or `500GB`",
            Self::Rate => "`400Mbit/s` or `50MB/s`",
            Self::Percent => "`80%`",
            Self::Ip => "`10.10.20.11`",
            Self::Cidr => "`10.10.20.0/24`",
            Self::Text => "`\"text\"`",
            Self::Port => "a number from 1 to 65535",
            Self::Bool => "`true` or `false`",
            _ => "",
        }
    }
}

/// Parameters of a template, while its body is expanded.
pub(crate) type Env = BTreeMap<String, Value>;

impl Value {
    pub(crate) fn kind(&self) -> Type {
        match self {
            Self::Text(_) => Type::Text,
            Self::Int(_) => Type::Int,
            Self::Bool(_) => Type::Bool,
            Self::Duration(_) => Type::Duration,
            Self::Size(_) => Type::Size,
            Self::Rate(_) => Type::Rate,
            Self::Percent(_) => Type::Percent,
            Self::Ip(_) => Type::Ip,
            Self::Cidr(_) => Type::Cidr,
            Self::Mac(_) => Type::Mac,
            Self::Machine(_) => Type::Machine,
            Self::Named(kind, _) => Type::Named(*kind),
            Self::List(items) => Type::List(Box::new(items.first().map_or(Type::Text, Self::kind))),
        }
    }
    pub(crate) fn is(&self, want: &Type) -> bool {
        match (self, want) {
            (Self::Int(port), Type::Port) => (1..=65535).contains(port),
            (Self::List(items), Type::List(of)) => items.iter().all(|item| item.is(of)),
            _ => self.kind() == *want,
        }
    }
}

impl Context<'_> {
    /// Evaluates; `None` when the reason has been reported.
    pub(crate) fn eval(&self, module: usize, env: &Env, expr: &Expr) -> Option<Value> {
        match &expr.kind {
            ExprKind::Text(text) => {
                self.check_secret(&text.text, expr.span);
                Some(Value::Text(text.text.clone()))
            }
            ExprKind::Int(number) => Some(Value::Int(*number)),
            ExprKind::Quantity(parts) => match quantity::read(parts, expr.span) {
                Ok(value) => Some(value),
                Err(diagnostic) => self.report(*diagnostic),
            },
            ExprKind::Ip(text) => match text.parse() {
                Ok(ip) => Some(Value::Ip(ip)),
                Err(_) => self.report(
                    Diagnostic::error(211, format!("`{text}` is not an address"), expr.span, "out of range")
                        .help("each part of an IPv4 address is from 0 to 255"),
                ),
            },
            ExprKind::Cidr(text) => Some(Value::Cidr(text.clone())),
            ExprKind::Mac(text) => Some(Value::Mac(text.to_lowercase())),
            ExprKind::Ref(reference) => self.eval_ref(module, env, reference),
            ExprKind::List(items) => {
                let values: Vec<_> = items.iter().map(|item| self.eval(module, env, item)).collect();
                let values = values.into_iter().collect::<Option<Vec<_>>>()?;
                self.of_one_kind(items, &values)?;
                Some(Value::List(values))
            }
            ExprKind::Call(call) => self.eval_call(module, env, call),
            ExprKind::Binary { left, operator, operator_span, right } => {
                let (left_value, right_value) = (self.eval(module, env, left), self.eval(module, env, right));
                let (left_value, right_value) = (left_value?, right_value?);
                match arithmetic(&left_value, *operator, &right_value) {
                    Ok(value) => Some(value),
                    Err(why) => self.report(
                        Diagnostic::error(212, why, *operator_span, "these do not go together")
                            .related(left.span, left_value.kind().with_article())
                            .related(right.span, right_value.kind().with_article())
                            .help("`+` and `-` take two of one unit, `*` takes a unit and a number, or a rate and a duration; `/` a unit and a number, or a size and a rate"),
                    ),
                }
            }
        }
    }

    /// A list holds one kind of thing.
    fn of_one_kind(&self, items: &[Expr], values: &[Value]) -> Option<()> {
        let Some((first, rest)) = values.split_first() else { return Some(()) };
        let other = rest.iter().position(|value| value.kind() != first.kind());
        let Some(index) = other.map(|index| index + 1) else { return Some(()) };
        let (kind, found) = (first.kind().with_article(), values[index].kind().with_article());
        self.report(
            Diagnostic::error(
                211,
                format!("this is {found} in a list that begins with {kind}"),
                items[index].span,
                found,
            )
            .related(items[0].span, kind)
            .help("a list holds one kind of thing"),
        )
    }

    fn eval_call(&self, module: usize, env: &Env, call: &ast::Call) -> Option<Value> {
        if call.callee.head.text == "len" && call.callee.path.is_empty() {
            if let [only] = call.arguments.as_slice() {
                return match self.eval(module, env, &only.value)? {
                    Value::List(items) => Some(Value::Int(items.len() as u64)),
                    other => self.report(Diagnostic::error(
                        211,
                        format!("`len` wants a list, this is {}", other.kind().with_article()),
                        only.value.span,
                        "not a list",
                    )),
                };
            }
            return self.report(Diagnostic::error(208, "`len` takes one list", call.span, "wrong arguments"));
        }
        if call.callee.head.text == "select" && call.callee.path.is_empty() {
            return self.select(module, env, call);
        }
        let name = &call.callee.head;
        self.report(
            Diagnostic::error(
                211,
                format!("`{}` is not a value", name.text),
                call.span,
                "a call where a value is wanted",
            )
            .help("the functions are `len(list)` and `select(site, …)`; work is done by steps and hooks"),
        )
    }

    fn eval_ref(&self, module: usize, env: &Env, reference: &ast::Ref) -> Option<Value> {
        if reference.path.is_empty() && !env.contains_key(&reference.head.text) {
            match reference.head.text.as_str() {
                "true" | "yes" => return Some(Value::Bool(true)),
                "false" | "no" => return Some(Value::Bool(false)),
                _ => {}
            }
        }
        let (mut value, rest) = self.resolve_head(module, env, reference)?;
        for access in rest {
            value = match access {
                Access::Field(field) => self.field(value, field)?,
                Access::Index(index, span) => self.index(value, *index, *span)?,
            };
        }
        Some(value)
    }

    fn field(&self, value: Value, field: &ast::Name) -> Option<Value> {
        let known: &[&str] = match &value {
            Value::Machine(name) => {
                match field.text.as_str() {
                    "name" => return Some(Value::Text(name.clone())),
                    "ip" => return self.home_ip(name, field.span),
                    _ => {}
                }
                &["ip", "name"]
            }
            Value::Named(Kind::Group, name) => {
                match field.text.as_str() {
                    "name" => return Some(Value::Text(name.clone())),
                    "machines" => return self.group_machines(name),
                    _ => {}
                }
                &["machines", "name"]
            }
            _ => &[],
        };
        let what = value.kind();
        let diagnostic =
            Diagnostic::error(201, format!("{} has no `{}`", what.with_article(), field.text), field.span, "unknown");
        self.report(match known {
            [] => diagnostic.help(format!("{} has no parts", what.with_article())),
            _ => diagnostic.help(format!("it has {}", crate::suggest::listed(known.iter().copied()))),
        })
    }

    fn index(&self, value: Value, index: u64, span: Span) -> Option<Value> {
        match value {
            Value::List(items) => {
                let count = items.len();
                let found = usize::try_from(index).ok().and_then(|index| items.into_iter().nth(index));
                if found.is_none() {
                    return self.report(
                        Diagnostic::error(
                            211,
                            format!("there is no item {index} in a list of {count}"),
                            span,
                            "beyond its end",
                        )
                        .help("items count from 0"),
                    );
                }
                found
            }
            other => self.report(Diagnostic::error(
                211,
                format!("only lists have items, this is {}", other.kind().with_article()),
                span,
                "not a list",
            )),
        }
    }

    /// Evaluates and insists on a type.
    pub(crate) fn expect(&self, module: usize, env: &Env, expr: &Expr, want: &Type) -> Option<Value> {
        if let (Type::Named(kind), ExprKind::Ref(reference)) = (want, &expr.kind)
            && self.is_nowhere(module, env, reference)
        {
            return self.unknown(module, &reference.head, Some(*kind));
        }
        if let (Type::Bool, ExprKind::Ref(reference)) = (want, &expr.kind)
            && self.is_nowhere(module, env, reference)
        {
            return self.report(not_a_bool(&reference.head));
        }
        let value = self.eval(module, env, expr)?;
        self.insist(value, want, expr.span)
    }

    pub(crate) fn insist(&self, value: Value, want: &Type, span: Span) -> Option<Value> {
        if value.is(want) {
            return Some(value);
        }
        if let (Value::List(items), Type::List(of)) = (&value, want)
            && let Some(misfit) = items.iter().find(|item| !item.is(of))
        {
            return self.report(
                Diagnostic::error(
                    211,
                    format!("an item is {}, wanted is {}", misfit.kind().with_article(), want.with_article()),
                    span,
                    "not all of one kind",
                )
                .help(format!("make each item {}", of.with_article())),
            );
        }
        self.report(mismatch(&value, want, span))
    }

    pub(crate) fn duration(&self, module: usize, env: &Env, expr: &Expr) -> Option<Duration> {
        match self.expect(module, env, expr, &Type::Duration)? {
            Value::Duration(duration) => Some(duration),
            _ => None,
        }
    }
    pub(crate) fn text(&self, module: usize, env: &Env, expr: &Expr) -> Option<String> {
        match self.expect(module, env, expr, &Type::Text)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
    pub(crate) fn ip(&self, module: usize, expr: &Expr) -> Option<IpAddr> {
        match self.expect(module, &Env::new(), expr, &Type::Ip)? {
            Value::Ip(ip) => Some(ip),
            _ => None,
        }
    }
}

/// `5m`, `40GiB`, `10.0.0.5`, `7000`.
fn is_like_a_literal(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_hexdigit())
        && text.contains(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".:/%".contains(c))
}

fn not_a_bool(name: &ast::Name) -> Diagnostic {
    const WORDS: [&str; 4] = ["true", "false", "yes", "no"];
    let diagnostic =
        Diagnostic::error(211, format!("`{}` is neither true nor false", name.text), name.span, "not a truth");
    match crate::suggest::nearest(&name.text, WORDS) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(
            name.span,
            near,
            crate::suggest::certainty(&name.text, &WORDS),
        ),
        None => diagnostic.help("write `true` or `false`"),
    }
}

fn mismatch(value: &Value, want: &Type, span: Span) -> Diagnostic {
    let found = value.kind();
    let wanted = want.with_article();
    match (value, want) {
        (Value::Named(Kind::Group, name), Type::Machine | Type::List(_)) => {
            Diagnostic::error(203, format!("`{name}` is a group, wanted is {wanted}"), span, "a group")
                .help(format!("its members are `{name}.machines`"))
                .fix(span, format!("{name}.machines"), Applicability::Maybe)
        }
        (Value::Int(number), _) if want.is_quantity() => {
            Diagnostic::error(212, format!("`{number}` has no unit, wanted is {wanted}"), span, "a bare number")
                .help(format!("write a unit: {}", want.example()))
        }
        (Value::Int(number), Type::Port) => {
            Diagnostic::error(211, format!("`{number}` is not a port"), span, "out of range")
                .help("a port is a number from 1 to 65535")
        }
        (Value::Text(text), _) if want.is_literal() && is_like_a_literal(text) => {
            Diagnostic::error(211, format!("this is a text, wanted is {wanted}"), span, "wrong kind")
                .help(format!("write it without quotes: `{text}`"))
                .fix(span, text.as_str(), Applicability::Maybe)
        }
        _ if want.is_quantity() && found.is_quantity() => {
            Diagnostic::error(212, format!("this is {}, wanted is {wanted}", found.with_article()), span, "wrong unit")
                .help(format!("write {}", want.example()))
        }
        _ if found.is_reference() && want.is_reference() => Diagnostic::error(
            203,
            format!("this names {}, wanted is {wanted}", found.with_article()),
            span,
            format!("{} here", found.with_article()),
        ),
        _ => {
            let diagnostic = Diagnostic::error(
                211,
                format!("this is {}, wanted is {wanted}", found.with_article()),
                span,
                "wrong kind",
            );
            if want.example().is_empty() { diagnostic } else { diagnostic.help(format!("write {}", want.example())) }
        }
    }
}

fn arithmetic(left: &Value, operator: ArithmeticOperator, right: &Value) -> Result<Value, String> {
    use ArithmeticOperator::{Add, Divide, Multiply, Subtract};
    let combine = |a: u64, b: u64| match operator {
        Add => a.checked_add(b).ok_or_else(|| "the sum is too large".to_owned()),
        Subtract => a.checked_sub(b).ok_or_else(|| "the difference is below zero".to_owned()),
        Multiply => a.checked_mul(b).ok_or_else(|| "the product is too large".to_owned()),
        Divide => match a.checked_div(b) {
            Some(quotient) if quotient * b == a => Ok(quotient),
            Some(_) => Err("the quotient is not a whole number".to_owned()),
            None => Err("nothing can be divided by zero".to_owned()),
        },
    };
    let product = || "the product is too large".to_owned();
    Ok(match (left, operator, right) {
        (Value::Int(a), _, Value::Int(b)) => Value::Int(combine(*a, *b)?),
        (Value::Duration(a), Add | Subtract, Value::Duration(b)) => Value::Duration(Duration(combine(a.0, b.0)?)),
        (Value::Size(a), Add | Subtract, Value::Size(b)) => Value::Size(Size(combine(a.0, b.0)?)),
        (Value::Rate(a), Add | Subtract, Value::Rate(b)) => Value::Rate(Rate(combine(a.0, b.0)?)),
        (Value::Percent(a), Add | Subtract, Value::Percent(b)) => Value::Percent(combine(*a, *b)?),
        (Value::Duration(a), Multiply | Divide, Value::Int(b)) | (Value::Int(b), Multiply, Value::Duration(a)) => {
            Value::Duration(Duration(combine(a.0, *b)?))
        }
        (Value::Size(a), Multiply | Divide, Value::Int(b)) | (Value::Int(b), Multiply, Value::Size(a)) => {
            Value::Size(Size(combine(a.0, *b)?))
        }
        (Value::Rate(a), Multiply | Divide, Value::Int(b)) | (Value::Int(b), Multiply, Value::Rate(a)) => {
            Value::Rate(Rate(combine(a.0, *b)?))
        }
        (Value::Rate(rate), Multiply, Value::Duration(time)) | (Value::Duration(time), Multiply, Value::Rate(rate)) => {
            let bytes = u128::from(rate.0) * u128::from(time.0) / 8_000;
            Value::Size(Size(u64::try_from(bytes).map_err(|_| product())?))
        }
        // The time it takes, rounded up to a millisecond.
        (Value::Size(size), Divide, Value::Rate(rate)) => {
            let millis = (u128::from(size.0) * 8_000)
                .checked_add(u128::from(rate.0.saturating_sub(1)))
                .and_then(|bits| bits.checked_div(u128::from(rate.0)));
            let millis = millis.ok_or_else(|| "nothing can be divided by zero".to_owned())?;
            Value::Duration(Duration(u64::try_from(millis).map_err(|_| "the quotient is too large".to_owned())?))
        }
        _ => {
            let word = match operator {
                Add => "added to",
                Subtract => "taken from",
                Multiply => "multiplied with",
                Divide => "divided by",
            };
            let (a, b) = (left.kind().with_article(), right.kind().with_article());
            return Err(match operator {
                Subtract => format!("{b} cannot be taken from {a}"),
                _ => format!("{a} cannot be {word} {b}"),
            });
        }
    })
}
