{{/* The kind that sets the replica counts: ScaledObject, HorizontalPodAutoscaler, or empty for the Deployments themselves. */}}
{{- define "video-analysis.scaler" -}}
{{- get (dict "keda" "ScaledObject" "prometheus" "ScaledObject" "hpa" "HorizontalPodAutoscaler") .Values.autoscaling.mode }}
{{- end }}
