{{/* The kind that sets the replica count: ScaledObject, HorizontalPodAutoscaler, or empty for the Deployment itself.
     Where the cluster does not have KEDA's kinds, ScaledObjects are omitted and the Deployments set the count. */}}
{{- define "video-analysis.scaler" -}}
{{- $mode := .Values.autoscaling.mode }}
{{- if eq $mode "hpa" }}HorizontalPodAutoscaler
{{- else if and (has $mode (list "keda" "prometheus")) (or (.Capabilities.APIVersions.Has "keda.sh/v1alpha1") (.Capabilities.APIVersions.Has "keda.sh/v1alpha1/ScaledObject")) }}ScaledObject
{{- end }}
{{- end }}

{{/* Replicas of a Deployment without autoscaler; context: (dict "root" $ "name" …). */}}
{{- define "video-analysis.replicas" -}}
{{- $component := index .root.Values .name }}
{{- if eq .root.Values.autoscaling.mode "none" }}{{ $component.replicas }}{{ else }}{{ max 1 $component.autoscaling.minReplicas }}{{ end }}
{{- end }}
