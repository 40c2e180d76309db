{{ config(order_by='(baseline_id, feature_name, bin_index)') }}

-- The order of bins is that of the macro bin_index: intervals, then single values or categories, then
-- __other__ where there is one, __missing__, __invalid__.
with binning as (

    select * from {{ ref('int_feature_binning_latest') }}

),

whole_baselines as (

    select baseline_id, feature_name, bin_counts
    from {{ ref('int_baseline_histograms_latest') }}
    where segment_key = 'all'

),

listed as (

    select
        baseline_id,
        feature_name,
        bin_count,
        arrayConcat(
            arrayMap(
                (lower, upper) -> ('interval', toNullable(lower), toNullable(upper), ''),
                if(empty(edges), [], arrayPushFront(edges, -inf)),
                if(empty(edges), [], arrayPushBack(edges, inf))
            ),
            arrayMap(point -> ('point', toNullable(point), toNullable(point), ''), points),
            arrayMap(category -> ('category', null, null, category), categories),
            if(empty(edges), [('other', null, null, '__other__')], []),
            [('missing', null, null, '__missing__'), ('invalid', null, null, '__invalid__')]
        ) as bins
    from binning

),

final as (

    select
        toLowCardinality(listed.baseline_id) as baseline_id,
        toLowCardinality(listed.feature_name) as feature_name,
        toUInt16(bin_number - 1) as bin_index,
        toUInt16(listed.bin_count) as bin_count,
        bin.1 as kind,
        bin.2 as lower,
        bin.3 as upper,
        bin.4 as category,
        toUInt64(whole_baselines.bin_counts[bin_number]) as baseline_count
    from listed
    array join
        bins as bin,
        arrayEnumerate(bins) as bin_number
    left join whole_baselines
        on listed.baseline_id = whole_baselines.baseline_id
        and listed.feature_name = whole_baselines.feature_name

)

select * from final
