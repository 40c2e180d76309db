{#- No model had more incidents than its budget in the week of the run or in the one before. Each row is a
    rule that had a part in it, the busiest first. -#}
{% test alert_budget_is_kept(model) %}
select model_name, week_start, monitor_name, incident_count, model_incident_count, incidents_per_week
from {{ model }}
where
    is_over_budget
    and week_start >= subtractWeeks({{ window_start(as_of(), 'week') }}, 1)
    and week_start <= {{ as_of() }}
order by model_name, week_start, rank_in_week
{% endtest %}
