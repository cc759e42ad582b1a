//! Values: numbers with units, addresses, texts, lists, calls, arithmetic.

use crate::ast::{Access, Argument, ArithmeticOperator, Call, Expr, ExprKind, Name, QuantityPart, Ref};
use crate::build::{Builder, child, children};
use crate::grammar::{Pair, Rule};
use crate::texts;
use muster_diagnostics::Diagnostic;
use std::net::IpAddr;

/// Operators in one expression. Nobody adds up more by hand, and the tree leans to the left, one level for each.
const OPERATORS_MAX: usize = 64;

impl Builder<'_> {
    pub(crate) fn child_expr(&mut self, pair: &Pair<'_>) -> Option<Expr> {
        let value = child(pair, Rule::expr)?;
        self.expr(&value)
    }

    pub(crate) fn expr(&mut self, pair: &Pair<'_>) -> Option<Expr> {
        let operators = children(pair, Rule::term).map(|term| term.into_inner().count()).sum::<usize>();
        if operators > OPERATORS_MAX {
            self.diagnostics.push(
                Diagnostic::error(
                    110,
                    "this expression is too long",
                    self.span(pair),
                    format!("more than {OPERATORS_MAX} parts"),
                )
                .help("give parts of it a name with `let`"),
            );
            return None;
        }
        self.chain(pair)
    }

    /// `expr` is a chain of terms, `term` a chain of atoms: values with operators between.
    fn chain(&mut self, pair: &Pair<'_>) -> Option<Expr> {
        let mut left: Option<Expr> = None;
        let mut pending = None;
        for part in pair.clone().into_inner() {
            if matches!(part.as_rule(), Rule::sum_op | Rule::product_op) {
                let operator = match part.as_str() {
                    "+" => ArithmeticOperator::Add,
                    "-" => ArithmeticOperator::Subtract,
                    "/" => ArithmeticOperator::Divide,
                    _ => ArithmeticOperator::Multiply,
                };
                pending = Some((operator, self.span(&part)));
                continue;
            }
            let right = if part.as_rule() == Rule::term { self.chain(&part)? } else { self.atom(&part)? };
            left = Some(match (left, pending.take()) {
                (Some(left), Some((operator, operator_span))) => {
                    let span = left.span.to(right.span);
                    let kind =
                        ExprKind::Binary { left: Box::new(left), operator, operator_span, right: Box::new(right) };
                    Expr { kind, span }
                }
                _ => right,
            });
        }
        left
    }

    pub(crate) fn atom(&mut self, pair: &Pair<'_>) -> Option<Expr> {
        let span = self.span(pair);
        let kind = match pair.as_rule() {
            Rule::text => {
                let (value, bad) = texts::line_text(pair.as_str(), span);
                self.diagnostics.extend(bad);
                ExprKind::Text(value)
            }
            Rule::text_block => ExprKind::Text(texts::block_text(pair.as_str(), span)),
            Rule::int => ExprKind::Int(self.whole_number(pair)?),
            Rule::quantity => ExprKind::Quantity(self.quantity(pair)),
            Rule::ip if self.address(pair) => ExprKind::Ip(pair.as_str().to_owned()),
            Rule::cidr if self.network_address(pair) => ExprKind::Cidr(pair.as_str().to_owned()),
            Rule::mac => ExprKind::Mac(pair.as_str().to_owned()),
            Rule::ref_ => ExprKind::Ref(self.reference(pair)?),
            Rule::call => ExprKind::Call(self.call(pair)?),
            Rule::list => {
                let mut elements = Vec::new();
                for element in children(pair, Rule::element) {
                    elements.push(self.child_expr(&element)?);
                }
                ExprKind::List(elements)
            }
            Rule::grouped => return self.child_expr(pair).map(|inner| Expr { span, ..inner }),
            _ => return None,
        };
        Some(Expr { kind, span })
    }

    pub(crate) fn whole_number(&mut self, pair: &Pair<'_>) -> Option<u64> {
        let number = pair.as_str().parse().ok();
        if number.is_none() {
            self.diagnostics.push(
                Diagnostic::error(109, "this number is too large", self.span(pair), format!("more than {}", u64::MAX))
                    .help("write a smaller number"),
            );
        }
        number
    }

    fn quantity(&self, pair: &Pair<'_>) -> Vec<QuantityPart> {
        let numbers = children(pair, Rule::number);
        let units = children(pair, Rule::unit);
        numbers
            .zip(units)
            .map(|(number, unit)| QuantityPart {
                number: number.as_str().to_owned(),
                number_span: self.span(&number),
                unit: self.name(&unit),
            })
            .collect()
    }

    /// Reports what only looks like an address.
    pub(crate) fn address(&mut self, pair: &Pair<'_>) -> bool {
        let good = pair.as_str().parse::<IpAddr>().is_ok();
        if !good {
            self.not_an_address(pair, "an address is written `10.0.0.5` or `2001:db8::1`");
        }
        good
    }

    fn network_address(&mut self, pair: &Pair<'_>) -> bool {
        let good = pair.as_str().split_once('/').is_some_and(|(address, length)| {
            let bits = address.parse::<IpAddr>().map(|address| if address.is_ipv4() { 32 } else { 128 });
            matches!((bits, length.parse::<u8>()), (Ok(bits), Ok(length)) if length <= bits)
        });
        if !good {
            self.not_an_address(pair, "a network is written `10.0.0.0/24` or `2001:db8::/64`");
        }
        good
    }

    fn not_an_address(&mut self, pair: &Pair<'_>, help: &str) {
        let message = format!("`{}` is not an address", pair.as_str());
        self.diagnostics.push(Diagnostic::error(109, message, self.span(pair), "cannot be read as one").help(help));
    }

    pub(crate) fn reference(&mut self, pair: &Pair<'_>) -> Option<Ref> {
        let span = self.span(pair);
        let mut head: Option<Name> = None;
        let mut path = Vec::new();
        for part in pair.clone().into_inner() {
            match part.as_rule() {
                Rule::name if head.is_none() => head = Some(self.name(&part)),
                Rule::name => path.push(Access::Field(self.name(&part))),
                Rule::index => path.push(Access::Index(self.whole_number(&part)?, self.span(&part))),
                _ => {}
            }
        }
        Some(Ref { head: head?, path, span })
    }

    pub(crate) fn child_call(&mut self, pair: &Pair<'_>) -> Option<Call> {
        let call = child(pair, Rule::call)?;
        self.call(&call)
    }

    fn call(&mut self, pair: &Pair<'_>) -> Option<Call> {
        let callee = child(pair, Rule::ref_)?;
        let callee = self.reference(&callee)?;
        let args = child(pair, Rule::args)?;
        let mut arguments = Vec::new();
        for arg in children(&args, Rule::arg) {
            let name = child(&arg, Rule::arg_name).map(|name| self.name(&name));
            arguments.push(Argument { name, value: self.child_expr(&arg)? });
        }
        Some(Call { callee, arguments, span: self.span(pair) })
    }
}
