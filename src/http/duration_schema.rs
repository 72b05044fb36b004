//! The schema of durations in the description of the API.

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::api::duration::PATTERN;

/// Describes a [`Duration`](crate::api::Duration) in a parameter or a body.
pub(super) struct DurationSchema;

impl PartialSchema for DurationSchema {
    fn schema() -> RefOr<Schema> {
        let object: Object = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(PATTERN))
            .examples(["24h", "3d4h"])
            .build();
        object.into()
    }
}

impl ToSchema for DurationSchema {
    fn name() -> Cow<'static, str> {
        "Duration".into()
    }
}
