//! The configuration's JSON schema, from the types that it is read into.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::Config;

/// The JSON schema of the configuration: for editors, and for whoever writes one with a program. It cannot say what one
/// field means for another; reading the file does.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

/// A type that is read by way of another one has that one's schema.
macro_rules! as_in_the_file {
    ($config:ty, $raw:ty) => {
        impl JsonSchema for $config {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                <$raw>::schema_name()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                <$raw>::json_schema(generator)
            }
        }
    };
}
pub(super) use as_in_the_file;

pub(super) fn colour(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["blue", "green"] })
}

pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "examples": ["1m 30s"] })
}

pub(super) fn selection(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{ "const": "*" }, { "type": "array", "items": { "type": "string" } }],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    /// Every object in the schema, with the way to it.
    fn walk<'a>(value: &'a Value, at: String, found: &mut Vec<(String, &'a Value)>) {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    walk(inner, format!("{at}/{name}"), found);
                }
                found.push((at, value));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| walk(item, format!("{at}/{index}"), found));
            }
            _ => {}
        }
    }

    #[test]
    fn every_field_is_described() {
        let schema = super::json_schema();
        let mut objects = Vec::new();
        walk(&schema, String::new(), &mut objects);
        let mut count = 0;
        // A field of that name is no list of fields.
        for (at, object) in objects.iter().filter(|(_, object)| object["type"] == "object") {
            let Some(fields) = object.get("properties").and_then(Value::as_object) else { continue };
            for (name, field) in fields {
                count += 1;
                // An enum's tag says its value, and its variant the meaning.
                let is_tag = field.get("const").is_some() && object.get("description").is_some();
                assert!(field.get("description").is_some() || is_tag, "{at}: `{name}` has no description");
            }
        }
        assert!(count > 60, "only {count} fields were looked at");
    }

    /// What reading refuses by itself, the schema refuses too.
    #[test]
    fn it_says_the_bounds_that_are_enforced() {
        let schema = super::json_schema();
        let of = |table: &str, field: &str| schema["$defs"][table]["properties"][field].clone();
        let kind = of("Provisioner", "kind");
        assert_eq!(kind["enum"], serde_json::json!(["static", "exec", "cloudformation", "lab"]));
        assert_eq!(kind.get("default"), None, "{kind}");
        assert_eq!(schema["$defs"]["Provisioner"]["required"], serde_json::json!(["kind"]));
        for (table, field, least, most) in [("Provisioner", "brokers", 1, 9), ("Dns", "ttl_s", 1, 86_400)] {
            let said = of(table, field);
            assert_eq!(
                (said["minimum"].as_u64(), said["maximum"].as_u64()),
                (Some(least), Some(most)),
                "{said}"
            );
        }
    }

    /// What is shipped is what the program reads. `kutover check --schema` writes it.
    #[test]
    fn the_shipped_schema_is_up_to_date() {
        let shipped = include_str!("../../../../docs/kutover.schema.json");
        let shipped: Value = serde_json::from_str(shipped).unwrap();
        assert!(
            shipped == super::json_schema(),
            "docs/kutover.schema.json is stale: write it anew with `cargo run -- check --schema > docs/kutover.schema.json`"
        );
    }
}
