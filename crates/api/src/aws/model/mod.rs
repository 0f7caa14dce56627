//! Placeholder: the model.

/// An operation.
pub struct ModelOperation(&'static str);

/// A request.
pub struct Input;

/// Why it is none.
pub enum Wrong {
    /// Not JSON.
    Serialization(String),
    /// Breaks a constraint.
    Validation(String),
}

/// By name.
pub fn operation(name: &str) -> Option<&'static ModelOperation> {
    static ALL: [ModelOperation; 3] = [ModelOperation("Encrypt"), ModelOperation("ListKeys"), ModelOperation("Sign")];
    ALL.iter().find(|one| one.0 == name)
}

impl ModelOperation {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0
    }

    /// Reads a request.
    pub fn read(&self, body: &[u8]) -> Result<Input, Wrong> {
        if body.is_empty() { Err(Wrong::Serialization(String::new())) } else { Ok(Input) }
    }
}
