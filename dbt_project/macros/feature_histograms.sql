{#- Counts of every feature in every segment and bucket of time: one row per (baseline, model version,
    bucket, segment, feature), whole. `entries_relation` has one row per prediction or baseline row:
    baseline_id, model_name, model_version, bucket, segment_pairs, entries. A feature of the baseline that
    a row lacks counts as missing; a feature that the baseline lacks has no bins. Numbers stand for names
    while counting: hashing strings would cost most of the time. -#}
{% macro feature_histograms(entries_relation, binning_relation) -%}
{%- set flags = {
    'null_count': 'kind = 4',
    'missing_count': 'kind = 6',
    'type_mismatch_count': 'is_mismatch and not is_non_finite',
    'non_finite_count': 'is_non_finite',
    'below_min_count': 'is_number and number < binning.min_value',
    'above_max_count': 'is_number and number > binning.max_value',
    'unseen_count': 'is_unseen',
    'number_count': 'is_number',
    'zero_count': 'is_number and number = 0',
} -%}
    completed as (

        select
            rows_to_count.baseline_id as baseline_id,
            rows_to_count.model_name as model_name,
            rows_to_count.model_version as model_version,
            rows_to_count.bucket as bucket,
            arrayMap(
                pair -> sipHash64(pair.1, pair.2), rows_to_count.segment_pairs
            ) as segment_ids,
            arrayConcat(
                rows_to_count.entries,
                if(
                    hasAll(rows_to_count.entries.1, expected.feature_names),
                    [],
                    arrayMap(
                        name -> (name, 6, 0., ''),
                        arrayFilter(
                            name -> not has(rows_to_count.entries.1, name), expected.feature_names
                        )
                    )
                )
            ) as all_entries
        from {{ entries_relation }} as rows_to_count
        left join (
            select baseline_id, groupArray(feature_name) as feature_names
            from {{ binning_relation }}
            -- A row without a label is none of the label's rows: it may come yet.
            where feature_name != '__label__'
            group by baseline_id
        ) as expected on rows_to_count.baseline_id = expected.baseline_id

    ),

    long_entries as (

        select
            baseline_id,
            model_name,
            model_version,
            bucket,
            segment_ids,
            entry.1 as feature_name,
            entry.2 as kind,
            entry.3 as number,
            entry.4 as text
        from completed
        array join all_entries as entry

    ),

    binned as (

        select
            sipHash64(
                long_entries.baseline_id, long_entries.model_name, long_entries.model_version
            ) as comparison_id,
            long_entries.bucket as bucket,
            long_entries.segment_ids as segment_ids,
            sipHash64(long_entries.feature_name) as feature_id,
            kind,
            number,
            ifNull(binning.feature_type, '') as type_or_none,
            if(type_or_none = '', 0, {{ bin_index('binning') }}) as bin,
            kind = 1 and type_or_none = 'numeric' as is_number,
            kind = 2 and text in ('NaN', 'Infinity', '-Infinity') and type_or_none = 'numeric'
                as is_non_finite,
            kind in (2, 3, 5) and type_or_none = 'numeric'
            or kind in (1, 2, 5) and type_or_none = 'boolean'
            or kind = 5 and type_or_none = 'categorical' as is_mismatch,
            type_or_none in ('categorical', 'boolean')
            and kind in (1, 2, 3)
            and not has(binning.categories, if(kind = 1, toString(number), text))
            and not has(binning.rare_categories, if(kind = 1, toString(number), text)) as is_unseen,
            {{ centre_of_numbers('binning') }} as centre,
            number - centre as deviation,
            {{ number_bucket('number', 'centre', unit_of_numbers('binning')) }} as bucket_of_number,
            -- Bin, flags and bucket in one number: one array per group is a third of the memory and time of
            -- a counter for each.
            toUInt64(
                bin
                {%- for flag in flags %}
                + bitShiftLeft(toUInt64(ifNull({{ flags[flag] }}, 0)), {{ 16 + loop.index0 }})
                {%- endfor %}
                + if(is_number, bitShiftLeft(toUInt64(32768 + bucket_of_number), 32), 0)
            ) as code
        from long_entries
        left join {{ binning_relation }} as binning
            on long_entries.baseline_id = binning.baseline_id
            and long_entries.feature_name = binning.feature_name

    ),

    counted as (

        select
            comparison_id,
            bucket,
            segment_id,
            feature_id,
            groupArray(code) as codes,
            sumIf(deviation, is_number) as number_sum,
            sumIf(deviation * deviation, is_number) as number_sum_of_squares,
            minIf(number, is_number) as least_number,
            maxIf(number, is_number) as greatest_number
        from binned
        array join segment_ids as segment_id
        group by comparison_id, bucket, segment_id, feature_id

    ),

    comparison_names as (

        select distinct
            sipHash64(baseline_id, model_name, model_version) as comparison_id,
            baseline_id,
            model_name,
            model_version
        from {{ entries_relation }}

    ),

    segment_names as (

        select distinct
            sipHash64(pair.1, pair.2) as segment_id,
            pair.1 as segment_key,
            pair.2 as segment_value
        from {{ entries_relation }}
        array join segment_pairs as pair

    ),

    feature_names as (

        select distinct sipHash64(feature_name) as feature_id, feature_name
        from (
            select arrayJoin(entries.1) as feature_name from {{ entries_relation }}
            union distinct
            select feature_name from {{ binning_relation }}
        )

    ),

    histograms as (

        select
            toLowCardinality(comparison_names.baseline_id) as baseline_id,
            toLowCardinality(comparison_names.model_name) as model_name,
            toLowCardinality(comparison_names.model_version) as model_version,
            counted.bucket as bucket,
            toLowCardinality(segment_names.segment_key) as segment_key,
            toLowCardinality(segment_names.segment_value) as segment_value,
            toLowCardinality(feature_names.feature_name) as feature_name,
            length(counted.codes) as row_count,
            {%- for flag in flags %}
            arrayCount(code -> bitTest(code, {{ 16 + loop.index0 }}), counted.codes) as {{ flag }},
            {%- endfor %}
            counted.number_sum as number_sum,
            counted.number_sum_of_squares as number_sum_of_squares,
            if(number_count > 0, counted.least_number, null) as number_min,
            if(number_count > 0, counted.greatest_number, null) as number_max,
            arrayMap(code -> toUInt16(bitAnd(code, 65535)), counted.codes) as bins,
            arrayMap(
                bin -> countEqual(bins, bin), range(ifNull(binning.bin_count, 0))
            ) as bin_counts,
            arraySort(arrayMap(
                code -> toInt16(toInt32(bitShiftRight(code, 32)) - 32768),
                arrayFilter(code -> code >= 4294967296, counted.codes)
            )) as buckets,
            {{ counts_of_sorted('buckets') }} as number_buckets
        from counted
        inner join comparison_names on counted.comparison_id = comparison_names.comparison_id
        inner join segment_names on counted.segment_id = segment_names.segment_id
        inner join feature_names on counted.feature_id = feature_names.feature_id
        left join {{ binning_relation }} as binning
            on comparison_names.baseline_id = binning.baseline_id
            and feature_names.feature_name = binning.feature_name

    )
{%- endmacro %}
