//! Messages for every method that the daemon offers, made out of the descriptors and of nothing else: what is added to
//! the interface is met by the tests that walk it.

use std::collections::BTreeMap;

use prost::Message as _;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Methods that are not of our package.
pub(crate) const FOREIGN: [&str; 3] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// What stands in a field, by its message and its own name.
pub(crate) type Value<'v> = dyn Fn(&str, &str) -> Vec<u8> + 'v;

/// A method of our package, and the type of its request.
pub(crate) struct Method {
    pub(crate) path: String,
    request: String,
}

/// Every method of our package, and every type of message.
pub(crate) struct Interface {
    pub(crate) methods: Vec<Method>,
    types: BTreeMap<String, DescriptorProto>,
}

/// The path of every method that the daemon offers.
pub(crate) fn paths() -> Vec<String> {
    let own = Interface::read().methods.into_iter().map(|method| method.path);
    own.chain(FOREIGN.map(str::to_owned)).collect()
}

impl Interface {
    pub(crate) fn read() -> Self {
        let files = FileDescriptorSet::decode(proto::v1::FILE_DESCRIPTOR_SET).unwrap();
        let (mut methods, mut types) = (Vec::new(), BTreeMap::new());
        for file in files.file {
            let package = file.package().to_owned();
            for service in &file.service {
                methods.extend(service.method.iter().map(|method| Method {
                    path: format!("/{package}.{}/{}", service.name(), method.name()),
                    request: method.input_type().to_owned(),
                }));
            }
            add_types(&mut types, &format!(".{package}"), file.message_type);
        }
        Self { methods, types }
    }

    /// Requests of this method, one for each alternative that it has. `value` says what stands in a field of text or
    /// bytes, of which it is told the message and the name.
    pub(crate) fn requests(&self, method: &Method, value: &Value<'_>) -> Vec<Vec<u8>> {
        let alternatives = self.types[&method.request].oneof_decl.len();
        let of_first = |field: &&FieldDescriptorProto| field.oneof_index == Some(0) && !field.proto3_optional();
        let most = match alternatives {
            0 => 1,
            _ => self.types[&method.request].field.iter().filter(of_first).count().max(1),
        };
        (0..most).map(|choice| self.message(&method.request, choice, value)).collect()
    }

    fn message(&self, name: &str, choice: usize, value: &Value<'_>) -> Vec<u8> {
        let (mut bytes, mut met) = (Vec::new(), BTreeMap::new());
        for field in &self.types[name].field {
            if let Some(index) = field.oneof_index.filter(|_| !field.proto3_optional()) {
                let count = met.entry(index).or_insert(0_usize);
                *count += 1;
                if *count != choice + 1 {
                    continue;
                }
            }
            let tag = u32::try_from(field.number()).unwrap();
            let content = match field.r#type() {
                Type::String | Type::Bytes => value(name.rsplit('.').next().unwrap(), field.name()),
                Type::Message if self.is_content(field) => self.message(field.type_name(), 0, value),
                // Whatever comes first, where there has to be one.
                Type::Enum if field.label() != Label::Repeated && !field.proto3_optional() => {
                    encode_key(tag, WireType::Varint, &mut bytes);
                    encode_varint(1, &mut bytes);
                    continue;
                }
                _ => continue,
            };
            if !content.is_empty() {
                encode_key(tag, WireType::LengthDelimited, &mut bytes);
                encode_varint(content.len() as u64, &mut bytes);
                bytes.put_slice(&content);
            }
        }
        bytes
    }

    /// Whether it is a message of our own; maps, and types of others, may be absent.
    fn is_content(&self, field: &FieldDescriptorProto) -> bool {
        let entry = |of: &DescriptorProto| of.options.as_ref().is_some_and(|options| options.map_entry());
        self.types.get(field.type_name()).is_some_and(|of| !entry(of))
    }
}

fn add_types(types: &mut BTreeMap<String, DescriptorProto>, within: &str, messages: Vec<DescriptorProto>) {
    for message in messages {
        let name = format!("{within}.{}", message.name());
        add_types(types, &name, message.nested_type.clone());
        types.insert(name, message);
    }
}

/// Messages as bytes, whatever they mean.
pub(super) struct AsItIs;

impl Codec for AsItIs {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsItIs {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; bytes.remaining()];
        bytes.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}
