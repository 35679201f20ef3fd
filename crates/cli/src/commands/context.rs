//! `holdfast context list|add|use|show|remove`: the gateways that a person calls, by name.
//!
//! Tokens come by standard input and are not shown again.

use std::path::Path;

use serde::Serialize;

use crate::app::App;
use crate::args::{ContextAddArgs, ContextCommand};
use crate::authority;
use crate::contexts::{self, CONTEXT_VARIABLE, Context, Contexts, check_way};
use crate::failure::{Failure, Kind, Result, printable};
use crate::gateway_url::GatewayUrl;
use crate::output::{or_dash, table};
use crate::secret_input;

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    gateway: String,
    is_current: bool,
    has_token: bool,
    ca_file: Option<String>,
    allow_plain_http: bool,
}

impl Row {
    fn new(context: &Context, current: Option<&str>) -> Self {
        let ca_file = context.ca_file.as_deref().map(Path::display);
        Self {
            name: context.name.clone(),
            gateway: context.gateway.to_string(),
            is_current: current == Some(context.name.as_str()),
            has_token: context.token.is_some(),
            ca_file: ca_file.map(|file| file.to_string()),
            allow_plain_http: context.allow_plain_http,
        }
    }

    fn text(&self) -> String {
        let yes_or_no = |is_so| if is_so { "yes" } else { "no" }.to_owned();
        let rows = [
            ("context", self.name.clone()),
            ("gateway", self.gateway.clone()),
            ("current", yes_or_no(self.is_current)),
            ("token", yes_or_no(self.has_token)),
            ("authority", or_dash(self.ca_file.as_deref())),
            ("plain http", yes_or_no(self.allow_plain_http)),
        ];
        let lines = rows.map(|(name, value)| format!("{name:10} {}\n", printable(&value)));
        lines.concat()
    }
}

pub(crate) fn context(app: &App, command: ContextCommand) -> Result<()> {
    match command {
        ContextCommand::List => list(app),
        ContextCommand::Add(args) => add(app, args),
        ContextCommand::Use { name } => make_current(app, &name),
        ContextCommand::Show { name } => show(app, name),
        ContextCommand::Remove { name } => remove(app, &name),
    }
}

fn list(app: &App) -> Result<()> {
    let contexts = Contexts::read(contexts::path()?)?;
    let current = contexts.current()?;
    let names = contexts.names();
    let rows = names.iter().map(|name| {
        let context = contexts.context(name)?;
        Ok(Row::new(&context, current.as_deref()))
    });
    let rows: Vec<Row> = rows.collect::<Result<_>>()?;
    app.output.show(&rows, |rows| {
        let cells = rows.iter().map(|row| {
            vec![
                if row.is_current { "*" } else { "" }.to_owned(),
                row.name.clone(),
                row.gateway.clone(),
                if row.has_token { "yes" } else { "no" }.to_owned(),
                or_dash(row.ca_file.as_deref()),
            ]
        });
        table(&["", "NAME", "GATEWAY", "TOKEN", "AUTHORITY"], cells)
    })
}

fn add(app: &App, args: ContextAddArgs) -> Result<()> {
    let gateway = GatewayUrl::parse(&args.gateway)?;
    if !args.allow_plain_http {
        check_way(&gateway, false).map_err(|failure| {
            failure.hint("name the gateway by https://, or say --allow-plain-http")
        })?;
    }
    let ca_file = args.ca_file.map(|file| {
        authority::read(&file)?;
        let absolute = std::path::absolute(&file);
        let absolute = absolute.map_err(|error| Failure::of(Kind::Machine, &error))?;
        // The file of contexts is text.
        let is_text = absolute.to_str().is_some();
        let message = format!("{}: the path is no UTF-8", file.display());
        is_text
            .then_some(absolute)
            .ok_or_else(|| Failure::invalid(message))
    });
    let ca_file = ca_file.transpose()?;
    let token = secret_input::from_stdin("the token")?;
    contexts::check_token(&token)?;
    let context = Context {
        name: args.name,
        gateway,
        token: Some(token),
        ca_file,
        allow_plain_http: args.allow_plain_http,
    };
    let current = contexts::change(contexts::path()?, |contexts| {
        contexts.set(&context)?;
        contexts.current()
    })?;
    let row = Row::new(&context, current.as_deref());
    app.output.show(&row, |row| {
        let now = if row.is_current {
            ", the current one"
        } else {
            ""
        };
        format!("{} is {}{now}", row.name, row.gateway)
    })
}

fn make_current(app: &App, name: &str) -> Result<()> {
    let context = contexts::change(contexts::path()?, |contexts| {
        let context = contexts.context(name)?;
        contexts.make_current(name)?;
        Ok(context)
    })?;
    let row = Row::new(&context, Some(name));
    app.output.show(&row, |row| {
        format!("{} is the current context, {}", row.name, row.gateway)
    })
}

fn show(app: &App, name: Option<String>) -> Result<()> {
    let contexts = Contexts::read(contexts::path()?)?;
    let current = contexts.current()?;
    let name = name.or_else(|| contexts::variable(CONTEXT_VARIABLE));
    let Some(name) = name.or_else(|| current.clone()) else {
        let message = format!("{} names no current context", contexts.path().display());
        return Err(Failure::new(Kind::NotFound, message)
            .hint("`holdfast context use NAME` names one, `holdfast context add` makes one"));
    };
    let context = contexts.context(&name)?;
    app.output
        .show(&Row::new(&context, current.as_deref()), Row::text)
}

#[derive(Debug, Serialize)]
struct Removed {
    name: String,
    /// It was what commands ask when nothing else is named; nothing is now.
    was_current: bool,
}

fn remove(app: &App, name: &str) -> Result<()> {
    let was_current = contexts::change(contexts::path()?, |contexts| {
        let current = contexts.current()?;
        contexts.remove(name)?;
        Ok(current.as_deref() == Some(name))
    })?;
    let removed = Removed {
        name: name.to_owned(),
        was_current,
    };
    if was_current {
        app.output
            .note("there is no current context now: `holdfast context use NAME` names one");
    }
    app.output
        .show(&removed, |removed| format!("removed {}", removed.name))
}
