//! What is known of a record that was not acknowledged.

use kutover_core::ports::DeliveryFate;
use rdkafka::message::BorrowedMessage;
use rdkafka_sys::rd_kafka_msg_status_t as Status;

/// The fate of a message of a failed delivery report, from librdkafka's message status alone: the error code does not
/// tell it (a purged record may be written, a timed-out one may not).
///
/// A failed message whose status is "persisted" is [`DeliveryFate::Unknown`] as well: its offset is not known, and what
/// librdkafka itself reports as failed must not be counted as acknowledged.
#[allow(unsafe_code, reason = "rdkafka 0.39 has no safe call for rd_kafka_message_status")]
pub(crate) fn of(message: &BorrowedMessage<'_>) -> DeliveryFate {
    // SAFETY: `ptr()` is the live `rd_kafka_message_t` of the delivery report event that `message` keeps alive, and the
    // call only reads it (rdkafka.h: "Returns the message's persistence status in the topic log").
    let status = unsafe { rdkafka_sys::rd_kafka_message_status(message.ptr()) };
    match status {
        Status::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => DeliveryFate::NotWritten,
        Status::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED | Status::RD_KAFKA_MSG_STATUS_PERSISTED => {
            DeliveryFate::Unknown
        }
    }
}
