//! Table `predictions`: one row per prediction, attention included.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::{Plain, Time};
use super::rows::{self, Rows};
use super::{RowEncoder, TableError};
use crate::prediction::{BehaviourAttention, FieldAttention, Status};
use crate::{Codec, Json, Origin, Place, Prediction, Record};

/// Name of the table.
pub const NAME: &str = "predictions";

fn table() -> Vec<Column<Prediction>> {
    let mut table = columns![Prediction;
        "version" Plain = version, "format of the record";
        "prediction_id" Plain = prediction_id, "id of the prediction: the raw view's place";
        "event_id" Plain = event_id, "the customer's id of the view";
        "event_time" Time = event_time_ms, "when the view happened";
        "user" Plain = user, "pseudonym of the consumer";
        "item" Plain = item, "item shown";
        "campaign" Plain = campaign, "campaign that it was shown for";
        "placement" Plain = placement, "slot on the page or screen";
        "request_id" Plain = request_id, "the customer's request id";
        "context" Plain = context, "the customer's own text, passed through";
        "p_click" Plain = p_click, "probability of a click within the click window";
        "p_purchase" Plain = p_purchase, "probability of a purchase within the purchase window";
        "expected_value" Plain = expected_value, "p_purchase times the value that the model predicts of a purchase, else times the price shown";
        "currency" Plain = currency, "ISO 4217 code of expected_value";
        "valid_until" Time = valid_until_ms, "when it should no longer be acted on";
        "status" Plain = status, "scored (by a model) or fallback (by base rates)";
        "model_version" Plain = model_version, "version of the model";
        "model_checksum" Plain = model_checksum, "checksum of the model";
        "kernel" Plain = kernel, "kernel class that computed it";
        "fingerprint" Plain = fingerprint, "vector schema of its input";
        "entity_version" Plain = entity_version, "version of the shared entities that the vector read";
        "place_partition" Plain = place.partition, "partition of the view in events";
        "place_offset" Plain = place.offset, "offset of the view in events";
        "vector_offset" Plain = vector_offset, "offset of the vector in its topic, in version 1";
        "clock" Time = clock_ms, "event clock when the vector was made; null before it started";
        "received" Time = received_ms, "Kafka timestamp of the raw view";
        "scored" Time = scored_ms, "when it was scored, wall clock";
        "source_topic" Plain = origin.topic, "raw topic";
        "source_partition" Plain = origin.partition, "partition of the raw topic";
        "source_offset" Plain = origin.offset, "offset of the raw record";
        "source_line" Plain = origin.line, "which of the raw record's events this is, from 0";
        "source_lines" Plain = origin.lines, "how many events the raw record became";
    ];
    table.push(Column::structs::<FieldAttention>(
        "attention",
        "the fields that drew most attention, largest first",
        |row| &row.attention,
        |row| &mut row.attention,
        columns![FieldAttention;
            "field" Plain = field, "field name";
            "weight" Plain = weight, "share of the attention";
        ],
    ));
    table.push(Column::structs::<BehaviourAttention>(
        "behaviours",
        "the past behaviours that drew most attention, largest first",
        |row| &row.behaviours,
        |row| &mut row.behaviours,
        columns![BehaviourAttention;
            "item" Plain = item, "item";
            "kind" Plain = kind, "what was done";
            "age_ms" Plain = age_ms, "how long before the view, ms";
            "weight" Plain = weight, "share of the attention over behaviours";
        ],
    ));
    // Last, as tables of before it get it.
    table.extend(columns![Prediction;
        "explanation_method" Plain = explanation_method, "how attention and behaviours were weighed";
    ]);
    table
}

/// An empty encoder.
pub fn encoder() -> Box<dyn RowEncoder> {
    Rows::boxed(
        Prediction::NAME,
        table(),
        |row| Some(row.event_time_ms),
        |record| Json::decode(&record.value::<Prediction>()?).map(Some),
    )
}

/// The predictions.
///
/// # Errors
/// Rows that no encoder of this table wrote.
pub fn decode(batch: &RecordBatch) -> Result<Vec<Prediction>, TableError> {
    rows::decode(NAME, batch, &table(), blank)
}

/// A prediction whose every field is about to be read.
fn blank() -> Prediction {
    Prediction {
        version: 0,
        prediction_id: String::new(),
        event_id: String::new(),
        user: String::new(),
        item: String::new(),
        campaign: String::new(),
        placement: String::new(),
        request_id: String::new(),
        context: String::new(),
        p_click: 0.0,
        p_purchase: 0.0,
        expected_value: 0.0,
        currency: String::new(),
        attention: Vec::new(),
        behaviours: Vec::new(),
        valid_until_ms: 0,
        status: Status::Fallback,
        model_version: String::new(),
        model_checksum: String::new(),
        kernel: String::new(),
        explanation_method: String::new(),
        fingerprint: String::new(),
        origin: Origin::default(),
        place: Place::default(),
        vector_offset: None,
        entity_version: 0,
        event_time_ms: 0,
        clock_ms: 0,
        received_ms: 0,
        scored_ms: 0,
    }
}
