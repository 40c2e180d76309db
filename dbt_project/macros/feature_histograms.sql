{#- Counts of every feature in every segment and bucket of time: one row per (baseline, model version,
    bucket, segment, feature), whole. `entries_relation` has one row per prediction or baseline row:
    baseline_id, model_name, model_version, bucket, segment_pairs, entries. A feature of the baseline that
    a row lacks counts as missing; a feature that the baseline lacks has no bins. Numbers stand for names
    while counting: hashing strings would cost most of the time. -#}
{% macro feature_histograms(entries_relation, binning_relation) -%}
{%- set flags = {
    'null_count': 'kind = 4',
    'type_mismatch_count': 'is_mismatch and not is_non_finite',
    'non_finite_count': 'is_non_finite',
    'below_min_count': 'is_number and number < bins_by_place.8[place]',
    'above_max_count': 'is_number and number > bins_by_place.9[place]',
    'unseen_count': 'is_unseen',
    'zero_count': 'is_number and number = 0',
} -%}
    {{ bins_by_place(binning_relation) }},

    rows_to_count as (

        select
            *,
            toUInt64(indexOf(names_of_bins.1, baseline_id)) as baseline_number,
            -- What all pairs share is hashed once.
            cityHash64(baseline_id, model_name, model_version, bucket) as row_id,
            arrayMap(pair -> cityHash64(row_id, pair.1, pair.2), segment_pairs) as group_ids
        from {{ entries_relation }}

    ),

    long_entries as (

        select
            group_ids,
            baseline_number,
            entry.feature_name as feature_name,
            entry.kind as kind,
            entry.number as number,
            entry.text as text
        from rows_to_count
        array join entries as entry

    ),

    placed as (

        select
            *,
            transform(
                bitShiftLeft(baseline_number, 32)
                + transform(feature_name, names_of_bins.2, arrayEnumerate(names_of_bins.2), 0),
                bins_by_place.2,
                bins_by_place.1,
                toUInt32(1)
            ) as place,
            bins_by_place.3[place] as type_code
        from long_entries

    ),

    binned as (

        select
            group_ids,
            feature_name,
            cityHash64(feature_name) as feature_id,
            kind,
            number,
            place,
            kind = 1 and type_code = 1 as is_number,
            kind = 2 and text in ('NaN', 'Infinity', '-Infinity') and type_code = 1 as is_non_finite,
            kind in (2, 3, 5) and type_code = 1
            or kind in (1, 2, 5) and type_code = 3
            or kind = 5 and type_code = 2 as is_mismatch,
            {{ category_number('place', 'type_code') }} as category_number,
            type_code in (2, 3) and kind in (1, 2, 3) and category_number = 0 as is_unseen,
            {{ bin_index('place', 'type_code', 'category_number') }} as bin,
            number - bins_by_place.10[place] as deviation,
            {{ number_bucket('number', 'bins_by_place.10[place]', 'bins_by_place.11[place]') }}
                as bucket_of_number,
            -- Bin (8 bits, there are 53 at most), flags (7) and bucket (13, from 1) in one number: one array
            -- per group is a third of the memory and time of a counter for each.
            toUInt32(
                bin
                {%- for flag in flags %}
                + bitShiftLeft(toUInt32({{ flags[flag] }}), {{ 8 + loop.index0 }})
                {%- endfor %}
                + is_number * bitShiftLeft(toUInt32(3001 + bucket_of_number), 16)
            ) as code
        from placed

    ),

    counted as (

        select
            group_id,
            feature_id,
            toString(any(binned.feature_name)) as seen_name,
            any(binned.place) as seen_place,
            groupArray(code) as codes,
            sumIf(deviation, is_number) as number_sum,
            sumIf(deviation * deviation, is_number) as number_sum_of_squares,
            minIf(number, is_number) as least_number,
            maxIf(number, is_number) as greatest_number
        from binned
        array join group_ids as group_id
        group by group_id, feature_id

    ),

    seen as (

        select
            group_id,
            feature_id,
            seen_name,
            seen_place,
            toUInt64(length(codes)) as seen_count,
            -- Few values have a flag.
            arrayFilter(code -> bitAnd(code, 65280) > 0, codes) as flagged,
            {%- for flag in flags %}
            toUInt64(arrayCount(code -> bitTest(code, {{ 8 + loop.index0 }}), flagged)) as {{ flag }},
            {%- endfor %}
            toUInt64(length(buckets)) as number_count,
            number_sum,
            number_sum_of_squares,
            least_number,
            greatest_number,
            arrayMap(code -> toUInt8(code), codes) as bins,
            arrayMap(
                bin -> toUInt64(countEqual(bins, bin)), range(bins_by_place.7[seen_place])
            ) as seen_bin_counts,
            arraySort(arrayMap(
                code -> toInt16(toInt32(bitShiftRight(code, 16)) - 3001),
                arrayFilter(code -> code >= 65536, codes)
            )) as buckets,
            {{ counts_of_sorted('buckets') }} as number_buckets
        from counted

    ),

    groups as (

        select
            group_id,
            any(rows_to_count.baseline_id) as baseline_id,
            any(rows_to_count.model_name) as model_name,
            any(rows_to_count.model_version) as model_version,
            any(rows_to_count.bucket) as bucket,
            any(pair.1) as segment_key,
            any(pair.2) as segment_value,
            count() as rows_of_group
        from rows_to_count
        array join group_ids as group_id, segment_pairs as pair
        group by group_id

    ),

    -- What each row should have. A row without a label is none of the label's rows: it may come yet.
    expected as (

        select
            groups.group_id as group_id,
            cityHash64(placed_bins.feature_name) as feature_id,
            placed_bins.feature_name as expected_name,
            placed_bins.place as expected_place,
            groups.rows_of_group as rows_expected
        from groups
        inner join placed_bins on groups.baseline_id = placed_bins.baseline_id
        where placed_bins.feature_name != '__label__'

    ),

    seen_or_expected as (

        select
            group_id,
            coalesce(seen_name, expected_name, '') as feature_name,
            coalesce(expected_place, seen_place, 1) as place,
            ifNull(rows_expected, ifNull(seen_count, 0)) as row_count,
            toUInt64(greatest(0, toInt64(row_count) - toInt64(ifNull(seen_count, 0)))) as missing_count,
            {%- for flag in flags %}
            ifNull({{ flag }}, 0) as {{ flag }},
            {%- endfor %}
            ifNull(number_count, 0) as number_count,
            ifNull(number_sum, 0.) as number_sum,
            ifNull(number_sum_of_squares, 0.) as number_sum_of_squares,
            if(number_count > 0, least_number, null) as number_min,
            if(number_count > 0, greatest_number, null) as number_max,
            bins_by_place.7[place] as bin_count,
            arrayMap(
                (bin_rows, bin) -> bin_rows + if(bin + 1 = bin_count, missing_count, 0),
                arrayResize(seen_bin_counts, bin_count, 0), range(1, bin_count + 1)
            ) as bin_counts,
            number_buckets
        from seen
        full join expected using (group_id, feature_id)

    ),

    histograms as (

        select
            toLowCardinality(groups.baseline_id) as baseline_id,
            toLowCardinality(groups.model_name) as model_name,
            toLowCardinality(groups.model_version) as model_version,
            groups.bucket as bucket,
            toLowCardinality(groups.segment_key) as segment_key,
            toLowCardinality(groups.segment_value) as segment_value,
            toLowCardinality(feature_name) as feature_name,
            seen_or_expected.* except (group_id, feature_name, place, bin_count)
        from seen_or_expected
        inner join groups on seen_or_expected.group_id = groups.group_id

    )
{%- endmacro %}
