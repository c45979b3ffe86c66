//! From pieces to the tree of a template.

use super::{
    Dialect, Error, functions,
    lex::{Piece, Token, pieces},
};
use std::{collections::BTreeMap, sync::Arc};

/// How deep blocks and parentheses may nest.
const DEPTH: usize = 64;

/// Templates by the names that they are called by.
pub(super) type Defined = BTreeMap<String, Arc<Vec<Node>>>;

/// A template with those that it defines.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) defined: Defined,
}

/// A part of a template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Template(String, Option<Pipe>, usize),
    Break,
    Continue,
}

/// Commands, each of which is given what the one before it makes, and the variables that get what the last one makes.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Term>>,
    pub(super) line: usize,
}

/// What a command is made of.
#[derive(Clone, Debug)]
pub(super) enum Term {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Function(String),
    /// Fields of the dot.
    Dot(Vec<String>),
    /// Fields of a variable.
    Variable(String, Vec<String>),
    /// Fields of what is in parentheses.
    Pipe(Box<Pipe>, Vec<String>),
}

/// Reads a template.
pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Tree, Error> {
    let mut parser = Parser { pieces: pieces(text)?.into_iter(), defined: BTreeMap::new(), dialect };
    let (nodes, end) = parser.block(0, false)?;
    match end {
        End::Text => Ok(Tree { nodes, defined: parser.defined }),
        End::Block(line) => Err(wrong(line, "there is nothing to end here")),
        End::Else(_, line) => Err(wrong(line, "`else` belongs to no if, with or range")),
    }
}

fn wrong(line: usize, message: impl Into<String>) -> Error {
    Error { line, message: message.into() }
}

/// What a block ended with.
enum End {
    Text,
    Block(usize),
    /// What follows the word `else`.
    Else(Vec<Token>, usize),
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    defined: Defined,
    dialect: Dialect,
}

impl Parser {
    /// What comes until the end of the block that it is in.
    fn block(&mut self, depth: usize, in_range: bool) -> Result<(Vec<Node>, End), Error> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, line) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, line) => (tokens, line),
            };
            if depth > DEPTH {
                return Err(wrong(line, "this nests too deep"));
            }
            let mut tokens = Tokens::new(tokens, line, self.dialect);
            let Some(Token::Word(word)) = tokens.peek() else {
                nodes.push(Node::Print(tokens.whole(depth)?));
                continue;
            };
            match word.as_str() {
                "end" => {
                    tokens.word();
                    tokens.finish()?;
                    return Ok((nodes, End::Block(line)));
                }
                "else" => {
                    tokens.word();
                    return Ok((nodes, End::Else(tokens.rest(), line)));
                }
                "if" | "with" | "range" => nodes.push(self.branch(tokens, depth, in_range)?),
                "define" => {
                    tokens.word();
                    let name = tokens.name()?;
                    tokens.finish()?;
                    let body = self.body(line, depth)?;
                    self.defined.insert(name, Arc::new(body));
                }
                "block" => {
                    tokens.word();
                    let name = tokens.name()?;
                    let pipe = tokens.whole(depth)?;
                    let body = self.body(line, depth)?;
                    self.defined.entry(name.clone()).or_insert(Arc::new(body));
                    nodes.push(Node::Template(name, Some(pipe), line));
                }
                "template" => {
                    tokens.word();
                    let name = tokens.name()?;
                    let pipe = if tokens.peek().is_some() { Some(tokens.whole(depth)?) } else { None };
                    nodes.push(Node::Template(name, pipe, line));
                }
                "break" | "continue" if in_range => {
                    nodes.push(if word == "break" { Node::Break } else { Node::Continue });
                    tokens.word();
                    tokens.finish()?;
                }
                "break" | "continue" => return Err(wrong(line, format!("`{word}` is not in a range"))),
                _ => nodes.push(Node::Print(tokens.whole(depth)?)),
            }
        }
        Ok((nodes, End::Text))
    }

    /// A block that has nothing but an end.
    fn body(&mut self, line: usize, depth: usize) -> Result<Vec<Node>, Error> {
        match self.block(depth + 1, false)? {
            (nodes, End::Block(_)) => Ok(nodes),
            (_, End::Text) => Err(wrong(line, "what begins here has no end")),
            (_, End::Else(_, line)) => Err(wrong(line, "`else` belongs to no if, with or range")),
        }
    }

    fn branch(&mut self, mut tokens: Tokens, depth: usize, in_range: bool) -> Result<Node, Error> {
        let line = tokens.line;
        let word = tokens.word();
        let pipe = tokens.whole(depth)?;
        let (body, end) = self.block(depth + 1, in_range || word == "range")?;
        let other = match end {
            End::Block(_) => Vec::new(),
            End::Text => return Err(wrong(line, format!("`{word}` has no end"))),
            End::Else(rest, line) => {
                let rest = Tokens::new(rest, line, self.dialect);
                match rest.peek() {
                    Some(Token::Word(next)) if matches!(next.as_str(), "if" | "with") && word != "range" => {
                        if depth + 1 > DEPTH {
                            return Err(wrong(line, "this nests too deep"));
                        }
                        vec![self.branch(rest, depth + 1, in_range)?]
                    }
                    Some(_) => return Err(wrong(line, "after `else` only `if` or `with` may come")),
                    None => match self.block(depth + 1, in_range)? {
                        (nodes, End::Block(_)) => nodes,
                        (_, End::Else(_, line)) => return Err(wrong(line, "this is the second `else`")),
                        (_, End::Text) => return Err(wrong(line, "`else` has no end")),
                    },
                }
            }
        };
        Ok(match word.as_str() {
            "if" => Node::If(pipe, body, other),
            "with" => Node::With(pipe, body, other),
            _ => Node::Range(pipe, body, other),
        })
    }
}

/// The tokens of one action.
struct Tokens {
    all: Vec<Token>,
    at: usize,
    line: usize,
    dialect: Dialect,
}

impl Tokens {
    fn new(all: Vec<Token>, line: usize, dialect: Dialect) -> Self {
        let mut tokens = Self { all, at: 0, line, dialect };
        tokens.space();
        tokens
    }

    fn space(&mut self) -> bool {
        let from = self.at;
        while self.all.get(self.at) == Some(&Token::Space) {
            self.at += 1;
        }
        self.at > from
    }

    fn peek(&self) -> Option<&Token> {
        self.all.get(self.at)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.all.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// The keyword that comes.
    fn word(&mut self) -> String {
        let Some(Token::Word(word)) = self.take() else { return String::new() };
        self.space();
        word
    }

    /// The name of a template.
    fn name(&mut self) -> Result<String, Error> {
        let Some(Token::Text(name)) = self.take() else {
            return Err(wrong(self.line, "the name of a template is a text, as in {{ template \"name\" . }}"));
        };
        self.space();
        Ok(name)
    }

    fn rest(self) -> Vec<Token> {
        self.all.into_iter().skip(self.at).collect()
    }

    fn finish(&self) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            Some(token) => Err(wrong(self.line, format!("{token:?} is too much"))),
        }
    }

    /// A pipe up to the end of the action.
    fn whole(&mut self, depth: usize) -> Result<Pipe, Error> {
        let pipe = self.pipe(depth)?;
        self.finish()?;
        Ok(pipe)
    }

    fn pipe(&mut self, depth: usize) -> Result<Pipe, Error> {
        if depth > DEPTH {
            return Err(wrong(self.line, "this nests too deep"));
        }
        let (variables, declares) = self.variables();
        let mut commands = Vec::new();
        loop {
            commands.push(self.command(depth)?);
            match self.peek() {
                Some(Token::Pipe) => drop(self.take()),
                _ => return Ok(Pipe { variables, declares, commands, line: self.line }),
            }
        }
    }

    /// The variables that a pipe is for: `$a :=`, `$i, $a :=`, `$a =`.
    fn variables(&mut self) -> (Vec<String>, bool) {
        let from = self.at;
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = self.peek() {
            names.push(name.clone());
            self.at += 1;
            self.space();
            match self.take() {
                Some(Token::Declare) => return (names, true),
                Some(Token::Assign) => return (names, false),
                Some(Token::Comma) if names.len() == 1 => self.space(),
                _ => break,
            };
        }
        self.at = from;
        (Vec::new(), false)
    }

    fn command(&mut self, depth: usize) -> Result<Vec<Term>, Error> {
        let mut operands = Vec::new();
        loop {
            self.space();
            match self.peek() {
                None | Some(Token::Pipe | Token::Close) => break,
                Some(_) => operands.push(self.operand(depth)?),
            }
            if !matches!(self.peek(), None | Some(Token::Space | Token::Pipe | Token::Close)) {
                return Err(wrong(self.line, "a space is missing between two values"));
            }
        }
        match operands.is_empty() {
            true => Err(wrong(self.line, "a value is missing")),
            false => Ok(operands),
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Term, Error> {
        let line = self.line;
        match self.take() {
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Ok(Term::Bool(true)),
                "false" => Ok(Term::Bool(false)),
                "nil" => Ok(Term::Nil),
                name if functions::is_known(self.dialect, name) => Ok(Term::Function(word)),
                name => Err(wrong(line, format!("the function {name} is not known"))),
            },
            Some(Token::Text(text)) => Ok(Term::Text(text)),
            Some(Token::Int(n)) => Ok(Term::Int(n)),
            Some(Token::Float(n)) => Ok(Term::Float(n)),
            Some(Token::Dot) => Ok(Term::Dot(Vec::new())),
            Some(Token::Field(name)) => {
                let mut fields = vec![name];
                fields.extend(self.fields());
                Ok(Term::Dot(fields))
            }
            Some(Token::Variable(name)) => Ok(Term::Variable(name, self.fields())),
            Some(Token::Open) => {
                self.space();
                let pipe = self.pipe(depth + 1)?;
                if self.take() != Some(Token::Close) {
                    return Err(wrong(line, "a parenthesis is not closed"));
                }
                Ok(Term::Pipe(Box::new(pipe), self.fields()))
            }
            Some(token) => Err(wrong(line, format!("{token:?} means nothing here"))),
            None => Err(wrong(line, "a value is missing")),
        }
    }

    fn fields(&mut self) -> Vec<String> {
        let mut fields = Vec::new();
        while let Some(Token::Field(name)) = self.peek() {
            fields.push(name.clone());
            self.at += 1;
        }
        fields
    }
}
