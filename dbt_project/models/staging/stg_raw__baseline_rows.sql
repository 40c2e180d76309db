with source as (

    select * from {{ source('raw', 'baseline_rows') }}

),

extracted as (

    select
        baseline_id,
        row_number,
        landed_at,
        JSONExtractKeysAndValuesRaw(value, 'features') as all_feature_pairs,
        {{ distinct_feature_pairs('all_feature_pairs') }} as feature_pairs,
        JSONExtractRaw(value, 'prediction') as prediction,
        JSONExtractRaw(value, 'label') as raw_label,
        mapFilter(
            (key, segment) -> segment != '',
            JSONExtract(value, 'segments', 'Map(LowCardinality(String), String)')
        ) as segments,
        parseDateTime64BestEffortOrNull(JSONExtractString(value, 'predicted_at'), 3, 'UTC')
            as predicted_at
    from source

),

typed as (

    select
        baseline_id,
        row_number,
        landed_at,
        {{ typed_output_columns('prediction') }},
        {{ typed_feature_columns('feature_pairs', 'invalid_outputs') }},
        {{ canonical_label('raw_label') }} as label,
        toFloat64OrNull(label) as label_number,
        segments,
        predicted_at
    from extracted

)

select * from typed
