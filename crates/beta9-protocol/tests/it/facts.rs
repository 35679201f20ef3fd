//! What goes over the wire, as facts to compare: read off a client's table, or off our descriptors.
//!
//! Packages of messages are left out on both sides, as the wire has none; of services they are
//! part of the path.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, MessageOptions,
    MethodDescriptorProto,
};

/// What one side says, ours or a client's.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Path to request and response, `stream:` before what is streamed.
    pub(crate) methods: BTreeMap<String, [String; 2]>,
    /// Name, cardinality and type, by message and number.
    pub(crate) fields: BTreeMap<(String, i32), [String; 3]>,
    /// Names, by enumeration and number.
    pub(crate) values: BTreeMap<(String, i32), String>,
}

impl Facts {
    /// What `describe_client.py` printed.
    pub(crate) fn parse(text: &str) -> Self {
        let mut facts = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["method", path, request, response] => {
                    let sides = [request, response].map(without_package);
                    facts.methods.insert(path.to_owned(), sides);
                }
                ["field", message, number, name, cardinality, kind] => {
                    let cardinality = if is_message(kind) && cardinality == "optional" {
                        "singular"
                    } else {
                        cardinality
                    };
                    let said = [
                        name.to_owned(),
                        cardinality.to_owned(),
                        without_package(kind),
                    ];
                    let key = (without_package(message), number.parse().unwrap());
                    assert!(facts.fields.insert(key, said).is_none(), "twice: {line}");
                }
                ["value", name, number, value] => {
                    let key = (without_package(name), number.parse().unwrap());
                    facts.values.insert(key, value.to_owned());
                }
                _ => panic!("not a fact: {line}"),
            }
        }
        facts
    }

    /// What an encoded `FileDescriptorSet` says.
    pub(crate) fn decode(descriptors: &[u8]) -> Self {
        let set = FileDescriptorSet::decode(descriptors).unwrap();
        let mut facts = Self::default();
        let files = set.file.iter();
        for file in files.filter(|file| !file.package().starts_with("google.")) {
            for service in &file.service {
                let service_path = format!("/{}.{}", file.package(), service.name());
                for method in &service.method {
                    facts.take_method(&service_path, method);
                }
            }
            for message in &file.message_type {
                facts.take_message(message);
            }
            for kind in &file.enum_type {
                facts.take_enum(kind);
            }
        }
        facts
    }

    /// Messages that requests are, and that those have in them.
    pub(crate) fn sent(&self) -> BTreeSet<&str> {
        let requests = self.methods.values().map(|[request, _]| request.as_str());
        let mut waiting: Vec<&str> = requests
            .map(|name| name.trim_start_matches("stream:"))
            .collect();
        let mut sent = BTreeSet::new();
        while let Some(message) = waiting.pop() {
            if !sent.insert(message) {
                continue;
            }
            let fields = self.fields.iter().filter(|((of, _), _)| of == message);
            waiting.extend(fields.filter_map(|(_, [_, _, kind])| kind.rsplit(',').next()));
        }
        sent
    }

    fn take_method(&mut self, service_path: &str, method: &MethodDescriptorProto) {
        let side = |streams, name| {
            let stream = if streams { "stream:" } else { "" };
            format!("{stream}{}", without_package(name))
        };
        let sides = [
            side(method.client_streaming(), method.input_type()),
            side(method.server_streaming(), method.output_type()),
        ];
        let path = format!("{service_path}/{}", method.name());
        self.methods.insert(path, sides);
    }

    fn take_message(&mut self, message: &DescriptorProto) {
        for field in &message.field {
            let [cardinality, kind] = describe(message, field);
            let said = [field.name().to_owned(), cardinality, kind];
            let key = (message.name().to_owned(), field.number());
            assert!(
                self.fields.insert(key, said).is_none(),
                "twice: {}",
                message.name()
            );
        }
    }

    fn take_enum(&mut self, kind: &EnumDescriptorProto) {
        for value in &kind.value {
            let key = (kind.name().to_owned(), value.number());
            self.values.insert(key, value.name().to_owned());
        }
    }
}

/// Scalars are words, messages have a package.
fn is_message(kind: &str) -> bool {
    kind.contains('.')
}

/// `.gateway.Task` and `gateway.Task` to `Task`; `stream:` and a map's key stay.
fn without_package(name: &str) -> String {
    let start = name.rfind([':', ',']).map_or(0, |position| position + 1);
    let (before, qualified) = name.split_at(start);
    let short = qualified.rsplit('.').next().unwrap_or(qualified);
    format!("{before}{short}")
}

/// Cardinality and type of a field of ours.
fn describe(message: &DescriptorProto, field: &FieldDescriptorProto) -> [String; 2] {
    let entry = without_package(field.type_name());
    let mut entries = message.nested_type.iter().filter(|nested| {
        let options = nested.options.as_ref();
        options.is_some_and(MessageOptions::map_entry)
    });
    if let Some(map) = entries.find(|nested| nested.name() == entry) {
        let kinds: Vec<_> = map.field.iter().map(kind).collect();
        return ["map".to_owned(), kinds.join(",")];
    }
    let cardinality = if field.label() == Label::Repeated {
        "repeated".to_owned()
    } else if field.proto3_optional() {
        "optional".to_owned()
    } else if let Some(index) = field.oneof_index {
        let group = message.oneof_decl[usize::try_from(index).unwrap()].name();
        format!("oneof:{group}")
    } else {
        "singular".to_owned()
    };
    [cardinality, kind(field)]
}

fn kind(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => without_package(field.type_name()),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    }
}
