{#- No incident of these metrics and this severity is open. Attach it to a model that nothing is built on: a
    failed test of severity error skips whatever is downstream. -#}
{% test no_open_breach(model, metrics, breach_severity) %}
select *
from {{ model }}
where
    status = 'open'
    and severity = '{{ breach_severity }}'
    and metric in ('{{ metrics | join("', '") }}')
{% endtest %}
