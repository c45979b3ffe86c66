//! Fills a template in.

use super::{
    Dialect, Error, Value, functions,
    parse::{self, Defined, Node, Pipe, Term},
    print,
};
use std::borrow::Cow;

/// How many steps a template may take.
const STEPS: usize = 1_000_000;
/// How deep templates may call each other.
const DEPTH: usize = 32;
/// How much a template may write, in bytes.
const SIZE: usize = 4 << 20;

/// Fills a template in.
pub(super) fn run(nodes: &[Node], (defined, dialect): (&Defined, Dialect), data: &Value) -> Result<String, Error> {
    let variables = vec![(String::new(), data.clone())];
    let defined = Cow::Borrowed(defined);
    let mut run = Run { defined, dialect, out: String::new(), variables, steps: 0, depth: 0 };
    run.nodes(nodes, data)?;
    Ok(run.out)
}

/// How the parts of a block ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a> {
    defined: Cow<'a, Defined>,
    dialect: Dialect,
    out: String,
    /// The newest last; `$` is the one without a name.
    variables: Vec<(String, Value)>,
    steps: usize,
    depth: usize,
}

fn wrong(line: usize, message: impl Into<String>) -> Error {
    Error { line, message: message.into() }
}

impl Run<'_> {
    fn step(&mut self, line: usize) -> Result<(), Error> {
        self.steps += 1;
        match self.steps > STEPS || self.out.len() > SIZE {
            true => Err(wrong(line, "the template does not come to an end")),
            false => Ok(()),
        }
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Error> {
        let mark = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, Error> {
        self.step(0)?;
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&print::text(&value));
                } else {
                    self.assign(pipe, value)?;
                }
            }
            Node::If(pipe, then, otherwise) => return self.branch(pipe, [then, otherwise], dot, false),
            Node::With(pipe, then, otherwise) => return self.branch(pipe, [then, otherwise], dot, true),
            Node::Range(pipe, body, otherwise) => return self.range(pipe, body, otherwise, dot),
            Node::Template(name, pipe, line) => {
                let value = pipe.as_ref().map_or(Ok(Value::Nil), |pipe| self.pipe(pipe, dot))?;
                self.template(name, value, *line)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn template(&mut self, name: &str, value: Value, line: usize) -> Result<(), Error> {
        let Some(body) = self.defined.get(name).cloned() else {
            return Err(wrong(line, format!("the template \"{name}\" is not defined")));
        };
        self.call(&body, value, line)
    }

    /// Fills in what sees nothing but what it is given.
    fn call(&mut self, body: &[Node], value: Value, line: usize) -> Result<(), Error> {
        if self.depth == DEPTH {
            return Err(wrong(line, "templates call each other too often"));
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.variables, vec![(String::new(), value.clone())]);
        let result = self.nodes(body, &value);
        self.variables = outer;
        self.depth -= 1;
        result.map(drop)
    }

    /// What `include` and `tpl` make: the text of a template, by its name or as a text itself.
    fn included(&mut self, named: bool, arguments: &[Value], line: usize) -> Result<Value, Error> {
        let [what, data] = arguments else {
            return Err(wrong(line, "include and tpl take a template, and what it is given"));
        };
        let outer = std::mem::take(&mut self.out);
        let done = match named {
            true => self.template(&print::text(what), data.clone(), line),
            false => parse::parse(&print::text(what), self.dialect).and_then(|tree| {
                if !tree.defined.is_empty() {
                    self.defined.to_mut().extend(tree.defined);
                }
                self.call(&tree.nodes, data.clone(), line)
            }),
        };
        let text = std::mem::replace(&mut self.out, outer);
        done.map(|()| text.into())
    }

    fn branch(&mut self, pipe: &Pipe, [then, otherwise]: [&[Node]; 2], dot: &Value, with: bool) -> Result<Flow, Error> {
        let mark = self.variables.len();
        let value = self.pipe(pipe, dot)?;
        let truth = value.truth();
        if !pipe.variables.is_empty() {
            self.assign(pipe, value.clone())?;
        }
        let flow = match truth {
            true => self.nodes(then, if with { &value } else { dot }),
            false => self.nodes(otherwise, dot),
        };
        self.variables.truncate(mark);
        flow
    }

    fn assign(&mut self, pipe: &Pipe, value: Value) -> Result<(), Error> {
        let name = pipe.variables.last().cloned().unwrap_or_default();
        if pipe.declares {
            self.variables.push((name, value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(n, _)| *n == name) {
            Some((_, held)) => *held = value,
            None => return Err(wrong(pipe.line, format!("the variable ${name} is not declared"))),
        }
        Ok(())
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow, Error> {
        let value = self.pipe(pipe, dot)?;
        let entries: Vec<(Value, Value)> = match &value {
            Value::Nil => Vec::new(),
            Value::List(all) => all.iter().enumerate().map(|(i, v)| ((i as i64).into(), v.clone())).collect(),
            Value::Map(_, all) => all.borrow().iter().map(|(k, v)| (k.as_str().into(), v.clone())).collect(),
            Value::Int(n) if *n <= STEPS as i64 => (0..*n).map(|i| (i.into(), i.into())).collect(),
            other => return Err(wrong(pipe.line, format!("a {} cannot be ranged over", other.kind()))),
        };
        if entries.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let mark = self.variables.len();
        for (key, entry) in entries {
            self.step(pipe.line)?;
            match pipe.variables.as_slice() {
                [] => {}
                [one] => self.variables.push((one.clone(), entry.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), entry.clone()));
                }
            }
            let flow = self.nodes(body, &entry)?;
            self.variables.truncate(mark);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, Error> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last, dot, pipe.line)?);
        }
        Ok(last.unwrap_or_default())
    }

    fn command(&mut self, operands: &[Term], last: Option<Value>, dot: &Value, line: usize) -> Result<Value, Error> {
        self.step(line)?;
        let Some((Term::Function(name), arguments)) = operands.split_first() else {
            return match (operands, last) {
                ([one], None) => self.operand(one, dot, line),
                ([one, arguments @ ..], last) => self.native(one, arguments, last, (dot, line)),
                _ => Ok(Value::Nil),
            };
        };
        if matches!(name.as_str(), "and" | "or") {
            return self.logic(name == "and", arguments, last, (dot, line));
        }
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            values.push(self.operand(argument, dot, line)?);
        }
        values.extend(last);
        if matches!(name.as_str(), "include" | "tpl") {
            return self.included(name == "include", &values, line);
        }
        let made = functions::call(self.dialect, name, &values);
        let made = made.map_err(|why| wrong(line, format!("{name}: {why}")))?;
        // What is made may grow from step to step.
        let fits = match &made {
            Value::Text(text) => text.len() <= SIZE,
            Value::List(_) | Value::Map(..) => made.is_bounded(),
            _ => true,
        };
        if fits { Ok(made) } else { Err(wrong(line, format!("{name}: makes something that is too large"))) }
    }

    /// Calls a function that is a value.
    fn native(
        &mut self,
        one: &Term,
        arguments: &[Term],
        last: Option<Value>,
        (dot, line): (&Value, usize),
    ) -> Result<Value, Error> {
        let Value::Native(function) = self.operand(one, dot, line)? else {
            return Err(wrong(line, "something is given arguments that is no function"));
        };
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            values.push(self.operand(argument, dot, line)?);
        }
        values.extend(last);
        (function.0)(&values).map_err(|why| wrong(line, why))
    }

    /// `and` and `or` look at no more than they have to.
    fn logic(
        &mut self,
        and: bool,
        arguments: &[Term],
        last: Option<Value>,
        (dot, line): (&Value, usize),
    ) -> Result<Value, Error> {
        let mut value = Value::Nil;
        for argument in arguments {
            value = self.operand(argument, dot, line)?;
            if value.truth() != and {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn operand(&mut self, operand: &Term, dot: &Value, line: usize) -> Result<Value, Error> {
        let fields = |from: Value, names: &[String]| {
            let found = names.iter().try_fold(from, |value, name| value.field(name));
            found.map_err(|why| wrong(line, why))
        };
        match operand {
            Term::Nil => Ok(Value::Nil),
            Term::Bool(b) => Ok((*b).into()),
            Term::Int(n) => Ok((*n).into()),
            Term::Float(n) => Ok(Value::Float(*n)),
            Term::Text(text) => Ok(text.as_str().into()),
            Term::Function(_) => self.command(std::slice::from_ref(operand), None, dot, line),
            Term::Dot(names) => fields(dot.clone(), names),
            Term::Variable(name, names) => match self.variables.iter().rev().find(|(n, _)| n == name) {
                Some((_, value)) => fields(value.clone(), names),
                None => Err(wrong(line, format!("the variable ${name} is not declared"))),
            },
            Term::Pipe(pipe, names) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    return fields(value, names);
                }
                Err(wrong(line, "a variable cannot be declared in parentheses"))
            }
        }
    }
}
