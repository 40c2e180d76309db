{#- The bin of one value under the bins of its baseline (int_feature_binning, bins_by_place). The order of
    bins: intervals, then single values or categories, then __other__ if there is one, __missing__,
    __invalid__. 0 without bins. The bin of a number is multiplied with whether it is one: the branch of an
    `if` is evaluated under a mask, which takes three times as long. -#}
{% macro bin_index(place, type_code, category_number) -%}
    {%- set points, interval_count = 'bins_by_place.5[' ~ place ~ ']', 'bins_by_place.12[' ~ place ~ ']' -%}
    toUInt16(
        ({{ type_code }} = 1 and kind = 1) * (
            -- A point is in none of the intervals; where there are none, it is one of the points or other.
            (indexOf({{ points }}, number) = 0) * ({{ edges_below(place) }})
            + (indexOf({{ points }}, number) = 0) * ({{ interval_count }} = 0) * length({{ points }})
            + (indexOf({{ points }}, number) > 0)
            * ({{ interval_count }} + indexOf({{ points }}, number) - 1)
        )
        + multiIf(
            {{ type_code }} = 0 or {{ type_code }} = 1 and kind = 1, 0,
            kind = 4, bins_by_place.7[{{ place }}] - 2,
            {{ type_code }} = 2 and kind in (1, 2, 3) or {{ type_code }} = 3 and kind = 3,
            if({{ category_number }} = 0, bins_by_place.6[{{ place }}], {{ category_number }} - 1),
            bins_by_place.7[{{ place }}] - 1
        )
    )
{%- endmacro %}
