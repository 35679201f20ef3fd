//! No function is longer than fits on a screen, unless waived by name.
//!
//! A function's name is its file, then its modules, type and own name:
//! `crates/x/src/y.rs::tests::Type::function`.

use syn::visit::{self, Visit};

use super::Violation;
use super::waivers::Waivers;
use crate::tree::SourceFile;

/// From the first line of the signature to the closing brace.
const MAX_LINES: usize = 70;

pub(super) fn check(source: &SourceFile, waivers: &mut Waivers) -> Vec<Violation> {
    let Ok(file) = syn::parse_file(&source.text) else {
        return Vec::new(); // The token rules have already said that it is not Rust.
    };
    let mut finder = Finder {
        scope: vec![source.path.clone()],
        long: Vec::new(),
    };
    finder.visit_file(&file);
    finder.long.retain(|long| !waivers.take(&long.name));
    finder
        .long
        .into_iter()
        .map(|long| long.violation(&source.path))
        .collect()
}

struct LongFunction {
    name: String,
    line: usize,
    lines: usize,
}

impl LongFunction {
    fn violation(self, path: &str) -> Violation {
        let what = format!(
            "{} is {} lines long, the limit is {MAX_LINES}",
            self.name, self.lines
        );
        let fix = "split it, or waive it by name with a reason in xtask/tidy-waivers.txt";
        Violation::new(path, self.line, what, fix)
    }
}

struct Finder {
    scope: Vec<String>,
    long: Vec<LongFunction>,
}

impl Finder {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = signature.fn_token.span.start().line;
        let lines = block.brace_token.span.close().end().line + 1 - line;
        if lines > MAX_LINES {
            let name = format!("{}::{}", self.scope.join("::"), signature.ident);
            self.long.push(LongFunction { name, line, lines });
        }
    }

    fn within(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        self.scope.push(name);
        visit(self);
        self.scope.pop();
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        self.within(item.sig.ident.to_string(), |finder| {
            visit::visit_item_fn(finder, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        self.within(item.sig.ident.to_string(), |finder| {
            visit::visit_impl_item_fn(finder, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.within(item.ident.to_string(), |finder| {
            visit::visit_item_mod(finder, item);
        });
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.within(type_name(&item.self_ty), |finder| {
            visit::visit_item_impl(finder, item);
        });
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.within(item.ident.to_string(), |finder| {
            visit::visit_item_trait(finder, item);
        });
    }
}

fn type_name(ty: &syn::Type) -> String {
    match ty {
        syn::Type::Path(path) => path
            .path
            .segments
            .last()
            .map_or_else(|| "impl".to_owned(), |segment| segment.ident.to_string()),
        syn::Type::Reference(reference) => type_name(&reference.elem),
        _ => "impl".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::waivers::Waivers;
    use crate::tree::SourceFile;

    fn long(waivers: &str, text: &str) -> Vec<String> {
        let mut waivers = Waivers::parse(waivers).unwrap();
        let source = SourceFile {
            path: "a.rs".to_owned(),
            text: text.to_owned(),
        };
        check(&source, &mut waivers)
            .into_iter()
            .map(|violation| violation.what)
            .collect()
    }

    #[test]
    fn names_and_counts_long_functions() {
        let body = |lines: usize| format!("{{\n{}}}", "x();\n".repeat(lines - 2));
        let method = format!("mod m {{ impl<T> Kind<T> {{ fn f() {} }} }}", body(71));
        assert_eq!(long("", &format!("fn f() {}", body(70))), [""; 0]);
        assert_eq!(
            long("", &method),
            ["a.rs::m::Kind::f is 71 lines long, the limit is 70"]
        );
        assert_eq!(long("a.rs::m::Kind::f  one table\n", &method), [""; 0]);
        let attributes = format!("#[a]\n/// Doc.\nfn f() {}", body(70));
        assert_eq!(long("", &attributes), [""; 0]);
        let nested = format!("trait T {{ fn f() {{ fn g() {} }} }}", body(80));
        assert_eq!(long("", &nested).len(), 2);
    }
}
