{#- How many edges of a place (bins_by_place) are less than `number`: a binary search whose steps each look up
    one number for all rows. To copy each value its edges, and to compare all, takes three times as long. -#}
{% macro edges_below(place) -%}
    {%- set first = '15 * toInt64(' ~ place ~ ' - 1)' -%}
    (8 * (edges_by_place[{{ first }} + 8] < number) as below_8)
    + (4 * (edges_by_place[{{ first }} + below_8 + 4] < number) as below_4)
    + (2 * (edges_by_place[{{ first }} + below_8 + below_4 + 2] < number) as below_2)
    + (edges_by_place[{{ first }} + below_8 + below_4 + below_2 + 1] < number)
{%- endmacro %}
