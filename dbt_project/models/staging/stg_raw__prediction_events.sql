with source as (

    {{ raw_events('prediction_events') }}

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
        -- One pass over the document for all fields of known types.
        JSONExtract(
            event,
            'Tuple(
                schema_version Float64,
                prediction_id String,
                model_name String,
                model_version String,
                predicted_at String,
                latency_ms Nullable(Float64),
                status String,
                segments Map(LowCardinality(String), String),
                entity_id String,
                is_truncated UInt8
            )'
        ) as fields,
        parseDateTime64BestEffortOrNull(fields.predicted_at, 3, 'UTC') as parsed_predicted_at,
        JSONExtractKeysAndValuesRaw(event, 'features') as all_feature_pairs,
        {{ distinct_feature_pairs('all_feature_pairs') }} as feature_pairs,
        JSONExtractRaw(event, 'prediction') as prediction,
        JSONExtractRaw(event, 'metadata') as metadata,
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
        -- The first reason that applies; an event without one is valid.
        multiIf(
            -- What driftline erase leaves of a message: its place in the topic.
            raw_value is null and has(headers.name, 'driftline_erased'), 'erased',
            raw_value is null, 'null_value',
            event = '', 'empty_value',
            not isValidUTF8(event), 'invalid_utf8',
            not isValidJSON(event), 'invalid_json',
            -- Each question to the document parses it anew: what can be seen otherwise is not asked.
            not match(event, '^\\s*\\{') and JSONType(event) != 'Object', 'not_an_object',
            fields.schema_version != 1, 'unsupported_schema_version',
            fields.prediction_id = '', 'missing_prediction_id',
            fields.model_name = '', 'missing_model_name',
            fields.model_version = '', 'missing_model_version',
            -- The logger's marker for an event that was too large to send.
            fields.is_truncated = 1, 'truncated',
            not match(fields.predicted_at, {{ var('time_pattern') }}), 'invalid_predicted_at',
            parsed_predicted_at is null, 'invalid_predicted_at',
            toYear(parsed_predicted_at) not between 2000 and 2099, 'predicted_at_out_of_range',
            empty(all_feature_pairs) and JSONType(event, 'features') != 'Object', 'features_not_an_object',
            JSONType(prediction) not in ('Object', 'Null'), 'prediction_not_an_object',
            hasAny(feature_pairs.1, ['__score__', '__prediction__', '__label__']),
            'reserved_feature_name',
            ''
        ) as reject_reason,
        fields.prediction_id as prediction_id,
        fields.model_name as model_name,
        fields.model_version as model_version,
        ifNull(parsed_predicted_at, toDateTime64(0, 3, 'UTC')) as predicted_at,
        toStartOfHour(toDateTime(predicted_at, 'UTC')) as predicted_hour,
        {{ typed_output_columns('prediction') }},
        {{ typed_feature_columns('feature_pairs', 'invalid_outputs') }},
        fields.latency_ms as latency_ms,
        if(fields.status = '', 'ok', fields.status) as status,
        -- A null reads as '': like an absent key it is a missing value.
        mapFilter((key, segment) -> segment != '', fields.segments) as segments,
        fields.entity_id as entity_id,
        metadata,
        value_hash
    from extracted

)

select * from typed
