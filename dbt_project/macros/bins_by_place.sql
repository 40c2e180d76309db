{#- The bins of all features of all baselines as constants, so that no value needs a join, or a copy of its
    bins: `placed_bins` numbers them, `names_of_bins` has the names of baselines and of features,
    `bins_by_place` what a place stands for (arrays, see below), `edges_by_place` its edges once more,
    `category_numbers` the position of each category. The first place is that of a feature without bins. -#}
{% macro bins_by_place(binning_relation) -%}
    placed_bins as (

        select
            *,
            toUInt32(1 + row_number() over (order by baseline_id, feature_name)) as place
        from {{ binning_relation }}

    ),

    (
        select (
            arraySort(groupUniqArray(toString(baseline_id))),
            arrayConcat(['\\0'], arraySort(groupUniqArray(toString(feature_name))))
        )
        from placed_bins
    ) as names_of_bins,

    (
        select arrayConcat(
            [(
                toUInt32(1), toUInt64(0), toUInt8(0), emptyArrayFloat64(), emptyArrayFloat64(),
                toUInt16(0), toUInt16(0), -inf, inf, 0., 1., toUInt16(0)
            )],
            arraySort(bins -> bins.1, groupArray((
                place,
                bitShiftLeft(toUInt64(indexOf(names_of_bins.1, baseline_id)), 32)
                + indexOf(names_of_bins.2, feature_name),
                toUInt8(transform(feature_type, ['numeric', 'categorical', 'boolean'], [1, 2, 3], 0)),
                edges,
                points,
                toUInt16(length(categories)),
                toUInt16(bin_count),
                ifNull(toFloat64(min_value), -inf),
                ifNull(toFloat64(max_value), inf),
                toFloat64({{ centre_of_numbers('placed_bins') }}),
                toFloat64({{ unit_of_numbers('placed_bins') }}),
                toUInt16(length(edges) + notEmpty(edges))
            )))
        )
        from placed_bins
    ) as bins_by_place,

    -- Nine edges at most, filled up to fifteen: four steps of a binary search.
    arrayFlatten(arrayMap(bins -> arrayResize(bins.4, 15, inf), bins_by_place)) as edges_by_place,

    (
        select (
            arrayConcat([toUInt64(0)], groupArray(sipHash64(place, category))),
            arrayConcat([toUInt16(0)], groupArray(toUInt16(number_of_category)))
        )
        from placed_bins
        array join
            arrayConcat(categories, rare_categories) as category,
            -- Rare ones share the bin behind those of their own.
            arrayConcat(
                arrayEnumerate(categories),
                arrayMap(rare -> length(categories) + 1, rare_categories)
            ) as number_of_category
    ) as category_numbers
{%- endmacro %}
