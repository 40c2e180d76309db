with source as (

    {{ raw_events('label_events') }}

),

extracted as (

    select
        cluster,
        topic,
        topic_id,
        `partition` as kafka_partition,
        `offset` as kafka_offset,
        kafka_timestamp,
        landed_at,
        corrected_by,
        value as raw_value,
        headers,
        ifNull(value, '') as event,
        JSONExtractFloat(event, 'schema_version') as schema_version,
        JSONExtractString(event, 'prediction_id') as prediction_id,
        JSONExtractString(event, 'model_name') as model_name,
        JSONExtractRaw(event, 'label') as raw_label,
        JSONExtractString(event, 'observed_at') as observed_at_text,
        parseDateTime64BestEffortOrNull(observed_at_text, 3, 'UTC') as parsed_observed_at,
        JSONExtractString(event, 'source') as source,
        sipHash64(event) as value_hash
    from source

),

typed as (

    select
        cluster,
        topic,
        topic_id,
        kafka_partition,
        kafka_offset,
        kafka_timestamp,
        landed_at,
        corrected_by,
        raw_value,
        multiIf(
            -- What driftline erase leaves of a message: its place in the topic.
            raw_value is null and has(headers.name, 'driftline_erased'), 'erased',
            raw_value is null, 'null_value',
            event = '', 'empty_value',
            not isValidUTF8(event), 'invalid_utf8',
            not isValidJSON(event), 'invalid_json',
            JSONType(event) != 'Object', 'not_an_object',
            schema_version != 1, 'unsupported_schema_version',
            prediction_id = '', 'missing_prediction_id',
            model_name = '', 'missing_model_name',
            not match(observed_at_text, {{ var('time_pattern') }}), 'invalid_observed_at',
            parsed_observed_at is null, 'invalid_observed_at',
            toYear(parsed_observed_at) not between 2000 and 2099, 'observed_at_out_of_range',
            {{ canonical_label('raw_label') }} = '', 'missing_label',
            ''
        ) as reject_reason,
        prediction_id,
        model_name,
        {{ canonical_label('raw_label') }} as label,
        toFloat64OrNull(label) as label_number,
        ifNull(parsed_observed_at, toDateTime64(0, 3, 'UTC')) as observed_at,
        source,
        value_hash
    from extracted

)

select * from typed
