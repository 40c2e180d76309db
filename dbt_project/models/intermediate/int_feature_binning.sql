{#- The bins of each feature of each baseline, as arrays to bin values with. dim_baseline_bins
    lists them one a row. Bins belong to the baseline, never to the window they are compared
    with. There are nine edges and 53 bins at most; counting has room for 15 and 255 (edges_below,
    feature_histograms). -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='(baseline_id, feature_name)',
) }}

{% if is_up_to_date(baselines_to_recount()) -%}
select * from {{ this }} where false
{%- else -%}
with entries as (

    select
        baseline_id,
        model_name,
        toString(entry.feature_name) as feature_name,
        entry.kind as kind,
        entry.number as number,
        entry.text as text
    from {{ ref('int_baseline_entries') }}
    array join entries as entry
    where baseline_id in (
        {{ baselines_to_recount() }}
    )

),

registered_types as (

    select
        baseline_id,
        registered.1 as feature_name,
        registered.2 as feature_type,
        mapContains(feature_importance, registered.1) as has_importance,
        feature_importance[registered.1] as importance
    from {{ ref('stg_raw__baselines') }}
    array join cast(feature_types, 'Array(Tuple(String, String))') as registered

),

overrides as (

    select * from {{ ref('features') }}

),

observed as (

    select
        baseline_id,
        any(model_name) as model_name,
        feature_name,
        countIf(kind = 1) as number_count,
        countIf(kind = 2) as string_count,
        countIf(kind = 3) as boolean_count
    from entries
    group by baseline_id, feature_name

),

-- Declared, else registered, else what the values are.
types as (

    select
        observed.baseline_id as baseline_id,
        observed.feature_name as feature_name,
        multiIf(
            ifNull(overrides.type, '') != '', overrides.type,
            ifNull(registered_types.feature_type, '') != '', registered_types.feature_type,
            observed.number_count > 0 and observed.string_count = 0, 'numeric',
            observed.boolean_count > 0 and observed.string_count = 0, 'boolean',
            'categorical'
        ) as feature_type,
        overrides.min as declared_min,
        overrides.max as declared_max,
        overrides.nullable as declared_nullable,
        ifNull(overrides.min_granularity, '') as min_granularity,
        if(registered_types.has_importance, registered_types.importance, null) as importance
    from observed
    left join registered_types
        on observed.baseline_id = registered_types.baseline_id
        and observed.feature_name = registered_types.feature_name
    left join overrides
        on observed.model_name = overrides.model_name
        and observed.feature_name = overrides.feature_name

),

number_counts as (

    select
        baseline_id,
        feature_name,
        number,
        count() as value_count,
        sum(value_count) over (partition by baseline_id, feature_name) as finite_count,
        count() over (partition by baseline_id, feature_name) as distinct_count
    from entries
    where
        kind = 1
        and (baseline_id, feature_name) in (
            select baseline_id, feature_name from types where feature_type = 'numeric'
        )
    group by baseline_id, feature_name, number

),

centred_counts as (

    select
        *,
        -- The mean of equal numbers is that number, whatever the rounding of their sum.
        if(
            distinct_count = 1,
            number,
            sum(number * value_count) over (partition by baseline_id, feature_name) / finite_count
        ) as mean_of_numbers
    from number_counts

),

numeric_bins as (

    select
        baseline_id,
        feature_name,
        -- A value that holds a tenth of the mass would be several deciles at once, and hide what the
        -- others do: it is a bin of its own.
        arraySort(groupArrayIf(
            number, distinct_count <= 20 or value_count * 10 >= finite_count
        )) as points,
        arrayDistinct(quantilesExactInclusiveArrayIf(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)(
            arrayWithConstant(value_count, number),
            distinct_count > 20 and value_count * 10 < finite_count
        )) as deciles,
        any(distinct_count) as number_of_values,
        min(number) as observed_min,
        max(number) as observed_max,
        any(mean_of_numbers) as mean,
        -- About the mean, since the difference of two sums of squares loses all digits of numbers such as
        -- times, which are large and close together.
        sqrt(sum(value_count * pow(number - mean_of_numbers, 2)) / any(finite_count)) as standard_deviation
    from centred_counts
    group by baseline_id, feature_name

),

category_counts as (

    select
        entries.baseline_id as baseline_id,
        entries.feature_name as feature_name,
        if(entries.kind = 1, toString(entries.number), entries.text) as category,
        count() as value_count
    from entries
    inner join types
        on entries.baseline_id = types.baseline_id and entries.feature_name = types.feature_name
    where
        (types.feature_type = 'categorical' and entries.kind in (1, 2, 3))
        or (types.feature_type = 'boolean' and entries.kind = 3)
    group by baseline_id, feature_name, category

),

category_bins as (

    select
        baseline_id,
        feature_name,
        arraySort(
            ranked -> (-ranked.2, ranked.1), groupArray((category, toInt64(value_count)))
        ).1 as all_categories,
        count() as number_of_categories
    from category_counts
    group by baseline_id, feature_name

),

binned as (

    select
        types.baseline_id as baseline_id,
        types.feature_name as feature_name,
        types.feature_type as feature_type,
        if(
            types.feature_type = 'numeric' and ifNull(numeric_bins.number_of_values, 0) > 20,
            arrayFilter(decile -> isFinite(decile), numeric_bins.deciles), []
        ) as edges,
        if(types.feature_type = 'numeric', numeric_bins.points, []) as points,
        arraySlice(category_bins.all_categories, 1, 50) as categories,
        -- Seen in the baseline but too rare for a bin of their own.
        arraySlice(category_bins.all_categories, 51, 1000) as rare_categories,
        ifNull(
            if(
                types.feature_type = 'numeric',
                numeric_bins.number_of_values, category_bins.number_of_categories
            ), 0
        ) as distinct_count,
        coalesce(types.declared_min, numeric_bins.observed_min) as min_value,
        coalesce(types.declared_max, numeric_bins.observed_max) as max_value,
        ifNull(numeric_bins.observed_min, 0) as least_number,
        ifNull(numeric_bins.observed_max, 0) as greatest_number,
        numeric_bins.mean as mean,
        numeric_bins.standard_deviation as standard_deviation,
        types.declared_nullable as declared_nullable,
        types.min_granularity as min_granularity,
        types.importance as importance
    from types
    left join numeric_bins
        on types.baseline_id = numeric_bins.baseline_id
        and types.feature_name = numeric_bins.feature_name
    left join category_bins
        on types.baseline_id = category_bins.baseline_id
        and types.feature_name = category_bins.feature_name

),

-- Where the bins lie on the line, from the least number of the baseline to the greatest: intervals, cut at
-- the single values within them, and the single values; a gap between those is a piece of no mass.
lines as (

    select
        *,
        if(empty(edges), [], arrayPushFront(edges, least_number)) as lowers,
        if(empty(edges), [], arrayPushBack(edges, greatest_number)) as uppers,
        arrayFlatten(arrayMap(
            (lower, upper, bin_number) -> arrayMap(
                (piece_lower, piece_upper) -> (
                    piece_lower,
                    piece_upper,
                    bin_number,
                    if(upper > lower, (piece_upper - piece_lower) / (upper - lower), 1.)
                ),
                arrayPushFront(arrayFilter(point -> point > lower and point < upper, points), lower),
                arrayPushBack(arrayFilter(point -> point > lower and point < upper, points), upper)
            ),
            lowers, uppers, arrayEnumerate(uppers)
        )) as interval_pieces,
        arrayMap(
            (point, place) -> (point, point, toUInt32(length(uppers) + place), 1.),
            points, arrayEnumerate(points)
        ) as point_pieces,
        if(
            empty(edges),
            arrayMap(
                (point, next_point) -> (point, next_point, toUInt32(1), 0.),
                arrayPopBack(points), arrayPopFront(points)
            ),
            []
        ) as gap_pieces,
        arraySort(
            piece -> (piece.1, piece.2, piece.3),
            arrayConcat(interval_pieces, point_pieces, gap_pieces)
        ) as sorted_pieces
    from binned

),

final as (

    select
        baseline_id,
        feature_name,
        toUInt16(row_number() over (partition by baseline_id order by feature_name)) as feature_index,
        feature_type,
        edges,
        points,
        categories,
        rare_categories,
        toUInt64(distinct_count) as distinct_count,
        -- Interval bins have no __other__: new numbers fall into the outer intervals.
        toUInt16(
            if(
                length(edges) > 0,
                length(edges) + 1 + length(points),
                length(points) + length(categories) + 1
            ) + 2
        ) as bin_count,
        cast(
            arrayMap(piece -> (toUInt16(piece.3), piece.4, piece.2 - piece.1), sorted_pieces),
            'Array(Tuple(bin_number UInt16, share Float64, width Float64))'
        ) as pieces,
        min_value,
        max_value,
        mean,
        standard_deviation,
        declared_nullable,
        min_granularity,
        importance,
        {{ run_version() }} as run_version
    from lines

)

select * from final
{%- endif %}
