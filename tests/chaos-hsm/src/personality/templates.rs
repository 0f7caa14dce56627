//! What becomes of a template before the module below sees it.

use std::slice;

use cryptoki_sys::*;

use super::names::{Attribute, Class, Code, Function, Mechanism};
use super::settings::{AttributeRule, Personality, UnwrapTemplate};

/// A template of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template(pub(super) Vec<(CK_ATTRIBUTE_TYPE, Held)>);

/// A value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Bytes.
    Bytes(Vec<u8>),
    /// A template.
    Template(Template),
}

/// The same as a function takes it. Lives as long as what points into it is used.
struct Raw {
    attributes: Vec<CK_ATTRIBUTE>,
    /// Values, aligned for whatever they are.
    _words: Vec<Vec<CK_ULONG>>,
    _nested: Vec<Raw>,
}

impl Template {
    /// A caller's.
    pub(super) fn read(at: *mut CK_ATTRIBUTE, count: CK_ULONG) -> Result<Self, CK_RV> {
        if at.is_null() {
            return if count == 0 { Ok(Self::default()) } else { Err(CKR_ARGUMENTS_BAD) };
        }
        // SAFETY: the caller's for the call, and as many as it says.
        let attributes = unsafe { slice::from_raw_parts(at, count as usize) };
        attributes
            .iter()
            .map(|attribute| Ok((attribute.type_, Held::read(attribute)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// A value.
    pub(super) fn get(&self, number: CK_ATTRIBUTE_TYPE) -> Option<&[u8]> {
        self.0.iter().find(|(other, _)| *other == number).and_then(|(_, held)| match held {
            Held::Bytes(bytes) => Some(&bytes[..]),
            Held::Template(_) => None,
        })
    }

    /// A value that is a number.
    pub(super) fn number(&self, number: CK_ATTRIBUTE_TYPE) -> Option<CK_ULONG> {
        self.get(number).and_then(|bytes| bytes.try_into().ok()).map(CK_ULONG::from_ne_bytes)
    }

    /// Whether there is such an attribute.
    pub(super) fn has(&self, number: CK_ATTRIBUTE_TYPE) -> bool {
        self.0.iter().any(|(other, _)| *other == number)
    }

    /// Without such an attribute.
    pub(super) fn remove(&mut self, number: CK_ATTRIBUTE_TYPE) {
        self.0.retain(|(other, _)| *other != number);
    }

    /// With this value. New ones stand first: SoftHSM takes nothing after a CKA_MODIFIABLE that is false.
    fn put(&mut self, number: CK_ATTRIBUTE_TYPE, bytes: Vec<u8>) {
        self.remove(number);
        self.0.insert(0, (number, Held::Bytes(bytes)));
    }

    /// Calls `function` with it.
    pub(super) fn with<T>(&self, function: impl FnOnce(*mut CK_ATTRIBUTE, CK_ULONG) -> T) -> T {
        let mut raw = self.raw();
        function(raw.attributes.as_mut_ptr(), raw.attributes.len() as CK_ULONG)
    }

    fn raw(&self) -> Raw {
        let mut raw = Raw { attributes: Vec::new(), _words: Vec::new(), _nested: Vec::new() };
        for (number, held) in &self.0 {
            let (at, length) = match held {
                Held::Bytes(bytes) => {
                    let mut words = words(bytes);
                    let at = words.as_mut_ptr().cast();
                    raw._words.push(words);
                    (at, bytes.len())
                }
                Held::Template(template) => {
                    let mut nested = template.raw();
                    let at = nested.attributes.as_mut_ptr().cast();
                    let length = nested.attributes.len() * size_of::<CK_ATTRIBUTE>();
                    raw._nested.push(nested);
                    (at, length)
                }
            };
            raw.attributes.push(CK_ATTRIBUTE { type_: *number, pValue: at, ulValueLen: length as CK_ULONG });
        }
        raw
    }
}

/// Bytes in numbers, the last filled up with zeroes.
fn words(bytes: &[u8]) -> Vec<CK_ULONG> {
    let word = |chunk: &[u8]| {
        let mut word = [0; size_of::<CK_ULONG>()];
        word[..chunk.len()].copy_from_slice(chunk);
        CK_ULONG::from_ne_bytes(word)
    };
    bytes.chunks(size_of::<CK_ULONG>()).map(word).collect()
}

impl Held {
    fn read(attribute: &CK_ATTRIBUTE) -> Result<Self, CK_RV> {
        if matches!(attribute.type_, CKA_WRAP_TEMPLATE | CKA_UNWRAP_TEMPLATE | CKA_DERIVE_TEMPLATE) {
            let count = attribute.ulValueLen / size_of::<CK_ATTRIBUTE>() as CK_ULONG;
            return Template::read(attribute.pValue.cast(), count).map(Self::Template);
        }
        if attribute.ulValueLen == 0 {
            return Ok(Self::Bytes(Vec::new()));
        }
        if attribute.pValue.is_null() {
            return Err(CKR_ATTRIBUTE_VALUE_INVALID);
        }
        let at = attribute.pValue.cast::<u8>();
        // SAFETY: the caller's for the call, and as long as it says.
        Ok(Self::Bytes(unsafe { slice::from_raw_parts(at, attribute.ulValueLen as usize) }.to_vec()))
    }

    fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Template(template) => template.0.len() * size_of::<CK_ATTRIBUTE>(),
        }
    }
}

impl AttributeRule {
    fn is_for(&self, function: &'static str, class: Option<CK_OBJECT_CLASS>) -> bool {
        let functions = match &self.function {
            Some(functions) => functions.contains(&Function(function)),
            None => function != "C_FindObjectsInit",
        };
        let classes = self.class.as_ref();
        let classes = classes.is_none_or(|classes| class.is_some_and(|class| classes.contains(&Class(class))));
        functions && classes && !self.off
    }

    /// What is wrong with a template.
    fn error(&self, template: &Template) -> Option<CK_RV> {
        let says = |usual| Some(self.code.unwrap_or(Code(usual)).0);
        for (number, held) in &template.0 {
            let name = Attribute(*number);
            if self.refuse.contains(&name) || self.only.as_ref().is_some_and(|only| !only.contains(&name)) {
                return says(CKR_ATTRIBUTE_TYPE_INVALID);
            }
            let refused = self.refuse_values.get(&name).is_some_and(|value| *held == Held::Bytes(value.bytes()));
            if refused || self.max_length.get(&name).is_some_and(|most| held.length() > *most) {
                return says(CKR_ATTRIBUTE_VALUE_INVALID);
            }
        }
        let missing = self.demand.iter().any(|name| !template.has(name.0));
        if missing { says(CKR_TEMPLATE_INCOMPLETE) } else { None }
    }

    fn change(&self, template: &mut Template) {
        self.ignore.iter().for_each(|name| template.remove(name.0));
        self.force.iter().for_each(|(name, value)| template.put(name.0, value.bytes()));
        for (name, value) in self.default.iter().filter(|(name, _)| !template.has(name.0)).collect::<Vec<_>>() {
            template.put(name.0, value.bytes());
        }
    }
}

impl Personality {
    /// What the module below sees of a template of this function for an object of this class.
    pub(super) fn template(
        &self,
        function: &'static str,
        class: Option<CK_OBJECT_CLASS>,
        mut template: Template,
    ) -> Result<Template, CK_RV> {
        let class = class.or_else(|| template.number(CKA_CLASS));
        let rules = || self.attributes.values().filter(|rule| rule.is_for(function, class));
        if let Some(error) = rules().find_map(|rule| rule.error(&template)) {
            return Err(error);
        }
        if function != "C_FindObjectsInit" && template.has(CKA_UNWRAP_TEMPLATE) {
            match self.wrap.template {
                UnwrapTemplate::None => return Err(CKR_ATTRIBUTE_TYPE_INVALID),
                UnwrapTemplate::AtGenerate if function == "C_UnwrapKey" => return Err(CKR_ATTRIBUTE_TYPE_INVALID),
                UnwrapTemplate::Dropped => template.remove(CKA_UNWRAP_TEMPLATE),
                UnwrapTemplate::AtGenerate | UnwrapTemplate::AtUnwrap => {}
            }
        }
        rules().for_each(|rule| rule.change(&mut template));
        self.standards(&mut template);
        Ok(template)
    }

    /// Allowed mechanisms have the numbers of the module below.
    fn standards(&self, template: &mut Template) {
        for (number, held) in &mut template.0 {
            match held {
                Held::Template(nested) => self.standards(nested),
                Held::Bytes(bytes) if *number == CKA_ALLOWED_MECHANISMS => {
                    for chunk in bytes.chunks_exact_mut(size_of::<CK_MECHANISM_TYPE>()) {
                        let number = chunk.try_into().map(CK_MECHANISM_TYPE::from_ne_bytes).unwrap_or_default();
                        let mapped = self.mechanisms.map.contains_key(&Mechanism(number)) || self.gcm(number).is_some();
                        if let Some(standards) = self.mechanism(number).filter(|_| mapped) {
                            chunk.copy_from_slice(&standards.to_ne_bytes());
                        }
                    }
                }
                Held::Bytes(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::presets::read;
    use super::*;

    fn of(text: &str) -> Personality {
        read(text.parse().unwrap()).unwrap()
    }

    fn template(attributes: &[(CK_ATTRIBUTE_TYPE, &[u8])]) -> Template {
        Template(attributes.iter().map(|(number, bytes)| (*number, Held::Bytes(bytes.to_vec()))).collect())
    }

    const SECRET: Option<CK_OBJECT_CLASS> = Some(CKO_SECRET_KEY);

    #[test]
    fn attributes_are_refused_for_the_functions_and_classes_that_are_named() {
        let text = "[attributes.a]\nfunction = [\"C_UnwrapKey\"]\nclass = [\"secret-key\"]\nrefuse = [\"CKA_LABEL\"]";
        let personality = of(text);
        let labelled = || template(&[(CKA_LABEL, b"name")]);
        let refused = Err(CKR_ATTRIBUTE_TYPE_INVALID);
        assert_eq!(personality.template("C_UnwrapKey", SECRET, labelled()), refused);
        assert_eq!(personality.template("C_GenerateKey", SECRET, labelled()), Ok(labelled()));
        assert_eq!(personality.template("C_UnwrapKey", Some(CKO_PRIVATE_KEY), labelled()), Ok(labelled()));
        assert_eq!(of(&format!("{text}\noff = true")).template("C_UnwrapKey", SECRET, labelled()), Ok(labelled()));
    }

    #[test]
    fn a_search_is_left_alone_where_it_is_not_named() {
        let personality = of("[attributes.a]\nrefuse = [\"CKA_LABEL\"]");
        let labelled = || template(&[(CKA_LABEL, b"name")]);
        assert_eq!(personality.template("C_FindObjectsInit", None, labelled()), Ok(labelled()));
        let named = of("[attributes.a]\nfunction = [\"C_FindObjectsInit\"]\nignore = [\"CKA_LABEL\"]");
        assert_eq!(named.template("C_FindObjectsInit", None, labelled()), Ok(Template::default()));
    }

    #[test]
    fn what_is_wrong_has_a_code() {
        for (rule, code) in [
            ("only = [\"CKA_ID\"]", CKR_ATTRIBUTE_TYPE_INVALID),
            ("demand = [\"CKA_ID\"]", CKR_TEMPLATE_INCOMPLETE),
            ("refuse_values = { CKA_PRIVATE = false }", CKR_ATTRIBUTE_VALUE_INVALID),
            ("max_length = { CKA_LABEL = 3 }", CKR_ATTRIBUTE_VALUE_INVALID),
            ("max_length = { CKA_LABEL = 3 }\ncode = \"CKR_DEVICE_ERROR\"", CKR_DEVICE_ERROR),
        ] {
            let personality = of(&format!("[attributes.a]\n{rule}"));
            let given = template(&[(CKA_LABEL, b"name"), (CKA_PRIVATE, &[0])]);
            assert_eq!(personality.template("C_GenerateKey", SECRET, given), Err(code), "{rule}");
        }
        let personality = of("[attributes.a]\nrefuse_values = { CKA_PRIVATE = false }");
        let private = || template(&[(CKA_PRIVATE, &[1])]);
        assert_eq!(personality.template("C_GenerateKey", SECRET, private()), Ok(private()));
    }

    #[test]
    fn attributes_are_forgotten_forced_and_added() {
        let text = "[attributes.a]\nignore = [\"CKA_COPYABLE\"]\nforce = { CKA_PRIVATE = true }\n\
                    default = { CKA_EXTRACTABLE = true, CKA_LABEL = \"none\" }";
        let given = template(&[(CKA_PRIVATE, &[0]), (CKA_COPYABLE, &[0]), (CKA_LABEL, b"name")]);
        let seen = of(text).template("C_GenerateKey", SECRET, given).unwrap();
        assert_eq!(seen.get(CKA_PRIVATE), Some(&[1][..]));
        assert_eq!(seen.get(CKA_EXTRACTABLE), Some(&[1][..]));
        assert_eq!(seen.get(CKA_LABEL), Some(&b"name"[..]));
        assert!(!seen.has(CKA_COPYABLE));
        assert_eq!(seen.0.last().unwrap().0, CKA_LABEL, "what is added stands first");
    }

    #[test]
    fn vendors_numbers_become_the_standards_in_templates_within_templates_too() {
        let personality = of("[mechanisms.map]\n0x80000170 = \"CKM_AES_KEY_WRAP\"");
        let allowed = |numbers: [CK_MECHANISM_TYPE; 2]| {
            template(&[(CKA_ALLOWED_MECHANISMS, &numbers.map(CK_MECHANISM_TYPE::to_ne_bytes).concat())])
        };
        let nested = |inner: Template| Template(vec![(CKA_UNWRAP_TEMPLATE, Held::Template(inner))]);
        let seen = personality.template("C_GenerateKey", SECRET, nested(allowed([0x8000_0170, CKM_AES_GCM]))).unwrap();
        assert_eq!(seen, nested(allowed([CKM_AES_KEY_WRAP, CKM_AES_GCM])));
        // What a function sees of it is what was read.
        assert_eq!(seen.with(Template::read), Ok(seen.clone()));
    }
}
