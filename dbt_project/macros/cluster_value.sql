{#- The value that a row shares with the rows it depends on, '' where it has none: `own_value`, or that of
    `cluster_key` in its segments or features. -#}
{% macro cluster_value(cluster_key, own_value="''") -%}
    multiIf(
        {{ own_value }} != '', {{ own_value }},
        mapContains(segments, {{ cluster_key }}), segments[{{ cluster_key }}],
        mapContains(string_features, {{ cluster_key }}), string_features[{{ cluster_key }}],
        mapContains(number_features, {{ cluster_key }}), toString(number_features[{{ cluster_key }}]),
        mapContains(boolean_features, {{ cluster_key }}), toString(boolean_features[{{ cluster_key }}]),
        ''
    )
{%- endmacro %}
