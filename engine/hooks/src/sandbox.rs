//! The interpreter as hooks get it: few packages, all limits on, and the host's words.

use crate::call::HostCall;
use crate::check::HookProblem;
use crate::doors::*;
use crate::growth;
use crate::guest::register_guest;
use crate::limits::*;
use crate::script::{Line, Stop};
use crate::value::*;
use muster_runsheet::HookSheet;
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, BasicStringPackage,
    LogicPackage, MoreStringPackage, Package,
};
use rhai::{AST, Array, Dynamic, Engine, INT, ImmutableString, Map, Module, OptimizationLevel, ParseErrorType, Scope};
use serde_json::Value as Json;
use std::time::Duration;

/// Words of the host that a script finds without declaring them.
const GLOBALS: [&str; 6] = ["run", "http", "net", "dns", "mail", "log"];

pub(crate) fn engine(line: &Line, run: Map) -> Engine {
    let mut engine = Engine::new_raw();
    // The core package without its language part, which can sleep on the real clock and reflect on functions.
    ArithmeticPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicFnPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    restrict(&mut engine, line);
    register_values(&mut engine);
    register_machines(&mut engine, line);
    register_guest(&mut engine, line);
    register_doors(&mut engine, line);
    register_words(&mut engine, line);
    let mut globals = Module::new();
    globals.set_var("run", run);
    globals.set_var("http", Http(line.clone()));
    globals.set_var("net", Net(line.clone()));
    globals.set_var("dns", Dns(line.clone()));
    globals.set_var("mail", Mail(line.clone()));
    globals.set_var("log", Log(line.clone()));
    engine.register_global_module(globals.into());
    engine
}

fn restrict(engine: &mut Engine, line: &Line) {
    for symbol in ["eval", "print", "debug", "import", "export"] {
        engine.disable_symbol(symbol);
    }
    // No call may be folded away at compile time: the record counts them.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_strict_variables(true);
    engine.set_allow_shadowing(false);
    engine.set_fail_on_invalid_map_property(true);
    engine.set_max_operations(line.budget.operations);
    engine.set_max_call_levels(CALL_DEPTH_MAX);
    engine.set_max_expr_depths(EXPRESSION_DEPTH_MAX.0, EXPRESSION_DEPTH_MAX.1);
    engine.set_max_string_size(STRING_BYTES_MAX);
    engine.set_max_array_size(ARRAY_ELEMENTS_MAX);
    engine.set_max_map_size(MAP_PROPERTIES_MAX);
    engine.set_max_functions(FUNCTIONS_MAX);
    engine.set_max_variables(VARIABLES_MAX);
    engine.set_max_modules(MODULES_MAX);
    growth::hold(engine);
    let (cancel, meter) = (line.cancel.clone(), line.meter.clone());
    engine.on_progress(move |operations| {
        meter.operations(operations);
        cancel.is_cancelled().then(|| Dynamic::from(Stop::Cancelled))
    });
}

/// Compiles the sheet's text. A text without the promised function is the body of it.
pub(crate) fn compile(engine: &Engine, sheet: &HookSheet) -> Result<AST, HookProblem> {
    let mut known = Scope::new();
    for word in GLOBALS {
        known.push_constant(word, ());
    }
    let text = whole_text(sheet);
    let ast = engine.compile_with_scope(&known, &text).map_err(|error| HookProblem {
        line: error.position().line().unwrap_or(1),
        column: error.position().position().unwrap_or(1),
        message: match error.err_type() {
            ParseErrorType::ExprTooDeep => {
                let (top, inside) = EXPRESSION_DEPTH_MAX;
                format!("over the limit of {top} nested expressions, of {inside} nested expressions in a function")
            }
            ParseErrorType::TooManyFunctions => format!("over the limit of {FUNCTIONS_MAX} functions"),
            other => other.to_string(),
        },
    })?;
    let wanted = sheet.parameters.len();
    let found: Vec<usize> = ast
        .iter_functions()
        .filter(|function| function.name == sheet.function)
        .map(|function| function.params.len())
        .collect();
    if found.contains(&wanted) {
        return Ok(ast);
    }
    let names: Vec<_> = sheet.parameters.iter().map(|(name, _)| snake(name)).collect();
    let signature = format!("fn {}({})", sheet.function, names.join(", "));
    let message = match found.first() {
        Some(number) => {
            format!("`{}` takes {number} parameters, its contract has {wanted}: `{signature}`", sheet.function)
        }
        None => format!("there is no `{signature}` in `{}`", sheet.origin),
    };
    Err(HookProblem { line: 1, column: 1, message })
}

fn whole_text(sheet: &HookSheet) -> String {
    let defines = sheet.text.match_indices("fn ").any(|(at, _)| {
        let rest = sheet.text[at + 3..].trim_start();
        rest.strip_prefix(sheet.function.as_str()).is_some_and(|rest| rest.trim_start().starts_with('('))
    });
    let has_functions = sheet.text.lines().any(|line| line.trim_start().starts_with("fn "));
    if defines || has_functions {
        return sheet.text.clone();
    }
    // On one line with the first of the body, so that line numbers stay true.
    let names: Vec<_> = sheet.parameters.iter().map(|(name, _)| snake(name)).collect();
    format!("fn {}({}) {{ {}\n}}", sheet.function, names.join(", "), sheet.text)
}

fn snake(name: &str) -> String {
    name.replace('-', "_")
}

fn register_values(engine: &mut Engine) {
    engine.register_type_with_name::<Ip>("ip");
    engine.register_fn("to_string", |ip: Ip| ip.to_string());
    engine.register_fn("to_debug", |ip: Ip| ip.to_string());
    engine.register_fn("==", |left: Ip, right: Ip| left == right);
    engine.register_fn("!=", |left: Ip, right: Ip| left != right);
    engine.register_fn("==", |left: Ip, right: ImmutableString| left.to_string() == right.as_str());
    engine.register_fn("!=", |left: Ip, right: ImmutableString| left.to_string() != right.as_str());
    engine.register_fn("==", |left: ImmutableString, right: Ip| right.to_string() == left.as_str());
    engine.register_fn("!=", |left: ImmutableString, right: Ip| right.to_string() != left.as_str());

    engine.register_type_with_name::<Span>("duration");
    engine.register_get("seconds", |span: &mut Span| INT::try_from(span.0.as_secs()).unwrap_or(INT::MAX));
    engine.register_get("millis", |span: &mut Span| INT::try_from(span.0.as_millis()).unwrap_or(INT::MAX));
    engine.register_fn("to_string", |span: Span| span.to_string());
    engine.register_fn("to_debug", |span: Span| span.to_string());
    engine.register_fn("==", |left: Span, right: Span| left == right);
    engine.register_fn("<", |left: Span, right: Span| left < right);
    engine.register_fn(">", |left: Span, right: Span| left > right);

    engine.register_type_with_name::<Bytes>("size");
    engine.register_get("bytes", |size: &mut Bytes| INT::try_from(size.0.0).unwrap_or(INT::MAX));
    engine.register_fn("to_string", |size: Bytes| size.to_string());
    engine.register_type_with_name::<Speed>("rate");
    engine.register_get("bits_per_second", |rate: &mut Speed| INT::try_from(rate.0.0).unwrap_or(INT::MAX));
    engine.register_fn("to_string", |rate: Speed| rate.to_string());

    engine.register_type_with_name::<Group>("group");
    engine.register_get("name", |group: &mut Group| group.name.to_string());
    engine.register_get("machines", |group: &mut Group| -> Array {
        group.machines.iter().cloned().map(Dynamic::from).collect()
    });
    engine.register_fn("to_string", |group: Group| group.to_string());

    engine.register_fn("parse_json", |text: ImmutableString| parse_json(&text));
    // `reply.json()`: the body of what `http` or `net.http` answered.
    engine.register_fn("json", |reply: Map| {
        match reply.get("body").and_then(|body| body.read_lock::<ImmutableString>().map(|b| b.clone())) {
            Some(body) => parse_json(&body),
            None => mistake("`.json()` is for a reply with a body"),
        }
    });
    engine.register_fn("parse_int", |text: ImmutableString| -> Outcome<INT> {
        text.trim().parse().or_else(|_| mistake(format!("`{text}` is not a whole number")))
    });
}

fn parse_json(text: &str) -> Outcome {
    match serde_json::from_str::<Json>(text) {
        Ok(json) => Ok(from_json(&json)),
        Err(error) => mistake(format!("not JSON: {error}")),
    }
}

fn address(ip: Option<std::net::IpAddr>, machine: &Machine, what: &str) -> Outcome<Ip> {
    match ip {
        Some(ip) => Ok(Ip(ip)),
        None => mistake(format!("machine `{machine}` has no {what}")),
    }
}

fn register_machines(engine: &mut Engine, line: &Line) {
    engine.register_type_with_name::<Machine>("machine");
    engine.register_get("name", |machine: &mut Machine| machine.0.name.to_string());
    engine.register_get("site", |machine: &mut Machine| machine.0.site.to_string());
    engine.register_get("ip", |machine: &mut Machine| address(machine.0.ip, machine, "address here"));
    engine.register_get("source_ip", |machine: &mut Machine| address(machine.0.source_ip, machine, "address at home"));
    engine.register_fn("to_string", |machine: Machine| machine.to_string());
    engine.register_fn("to_debug", |machine: Machine| machine.to_string());
    engine.register_fn("==", |left: Machine, right: Machine| left.0.name == right.0.name);

    let door = line.clone();
    engine.register_fn("exec", move |machine: Machine, command: Dynamic| exec(&door, &machine, &command, Map::new()));
    let door = line.clone();
    engine.register_fn("exec", move |machine: Machine, command: Dynamic, options: Map| {
        exec(&door, &machine, &command, options)
    });
    let door = line.clone();
    engine.register_fn("put", move |machine: Machine, path: ImmutableString, text: Dynamic| -> Outcome<()> {
        let text = sealed_of(&text, "a file")?;
        door.ask(HostCall::Put { machine: machine.0, path: path.to_string(), text }).map(|_| ())
    });
    let door = line.clone();
    engine.register_fn("get", move |machine: Machine, path: ImmutableString| -> Outcome {
        door.ask(HostCall::Get { machine: machine.0, path: path.to_string() }).map(|json| from_json(&json))
    });
}

/// A program and its arguments, from a text or an array of texts.
pub(crate) fn words_of(command: &Dynamic) -> Outcome<(String, Vec<String>)> {
    let words = match json_of(command, "a command")? {
        Json::String(text) => split_words(&text).or_else(mistake)?,
        Json::Array(items) => items.iter().map(text_of).collect(),
        _ => return mistake("a command is a text or an array of texts"),
    };
    match words.split_first() {
        Some((program, arguments)) => Ok((program.clone(), arguments.to_vec())),
        None => mistake("a command names a program"),
    }
}

fn exec(line: &Line, machine: &Machine, command: &Dynamic, options: Map) -> Outcome {
    let (program, arguments) = words_of(command)?;
    let (mut stdin, mut within) = (None, None);
    for (key, value) in &options {
        match key.as_str() {
            "stdin" => stdin = Some(sealed_of(value, "`stdin`")?),
            "within" => within = Some(span_of(value)?),
            other => return mistake(format!("`exec` knows `stdin` and `within`, not `{other}`")),
        }
    }
    let call = HostCall::Exec { machine: machine.0.clone(), program, arguments, stdin, within };
    line.ask(call).map(|json| from_json(&json))
}

/// A duration of the language, or a whole number of seconds.
pub(crate) fn span_of(value: &Dynamic) -> Outcome<Duration> {
    if let Some(span) = value.read_lock::<Span>() {
        return Ok(span.0);
    }
    if let Ok(seconds) = value.as_int() {
        return match u64::try_from(seconds) {
            Ok(seconds) => Ok(Duration::from_secs(seconds)),
            Err(_) => mistake("a time span cannot be negative"),
        };
    }
    if let Some(text) = value.read_lock::<ImmutableString>()
        && let Ok(duration) = text.parse::<muster_runsheet::Duration>()
    {
        return Ok(duration.std());
    }
    mistake("a time span is a duration, a text such as \"20s\", or a whole number of seconds")
}

/// Splits as a shell would, quotes included, and expands nothing: there is no shell.
pub(crate) fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some(end) if end == letter => break,
                        Some('\\') if letter == '"' => quoted.extend(letters.next()),
                        Some(inner) => quoted.push(inner),
                        None => return Err(format!("the quote {letter} in `{text}` is not closed")),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(letters.next()),
            space if space.is_whitespace() => words.extend(word.take()),
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Ok(words)
}

fn register_words(engine: &mut Engine, line: &Line) {
    let door = line.clone();
    engine.register_fn("checkpoint", move |key: ImmutableString, value: Dynamic| -> Outcome<()> {
        let value = json_of(&value, "a checkpoint")?;
        door.ask(HostCall::Checkpoint { key: key.to_string(), value }).map(|_| ())
    });
    let door = line.clone();
    engine.register_fn("saved", move |key: ImmutableString| -> Outcome {
        door.ask(HostCall::Saved { key: key.to_string() }).map(|json| from_json(&json))
    });
    let door = line.clone();
    engine.register_fn("now", move || -> Outcome { door.ask(HostCall::Now).map(|json| from_json(&json)) });
    let door = line.clone();
    // `run.deadline()`, on the scale of `now()`.
    engine.register_fn("deadline", move |_run: Map| -> Outcome {
        door.ask(HostCall::Deadline).map(|json| from_json(&json))
    });
    let door = line.clone();
    engine.register_fn("random", move |below: INT| -> Outcome {
        if below < 1 {
            return mistake("`random(n)` wants n of at least 1");
        }
        door.ask(HostCall::Random { below }).map(|json| from_json(&json))
    });
    let door = line.clone();
    engine.register_fn("sleep", move |span: Dynamic| -> Outcome<()> {
        let millis = u64::try_from(span_of(&span)?.as_millis()).unwrap_or(u64::MAX);
        let due = door.ask(HostCall::SleepDue { millis })?.as_u64().unwrap_or(0);
        door.ask(HostCall::SleepUntil { due }).map(|_| ())
    });
    engine.register_fn("fail", |text: ImmutableString| -> Outcome { Stop::Fail(text.to_string()).raise() });
    engine
        .register_fn("retry_later", |text: ImmutableString| -> Outcome { Stop::RetryLater(text.to_string()).raise() });
    engine.register_fn("skip", |text: ImmutableString| -> Outcome { Stop::Skip(text.to_string()).raise() });
}
