{{/* Checks that values.schema.json cannot express. All problems are reported at once, one line each with its key. */}}
{{- define "video-analysis.checks" -}}
{{- $values := .Values }}
{{- $wrong := list }}

{{- if not $values.image.registry }}
{{- $wrong = append $wrong "image.registry is required: the registry of the three images, such as registry.example.com/media." }}
{{- end }}

{{- $model := $values.model }}
{{- if not $model.source }}
{{- $wrong = append $wrong "model.source is required: the source of the encoder's weights, baked, claim, download or synthetic." }}
{{- end }}
{{- if and (eq $model.source "baked") (not $model.directory) }}
{{- $wrong = append $wrong "model.directory is required where model.source is baked: the checkpoint's directory in the encoder's image." }}
{{- end }}
{{- if and (eq $model.source "claim") (not $model.claim.name) }}
{{- $wrong = append $wrong "model.claim.name is required where model.source is claim: the PersistentVolumeClaim with the checkpoint." }}
{{- end }}
{{- if eq $model.source "download" }}
{{- if not $model.revision }}
{{- $wrong = append $wrong "model.revision is required where model.source is download: the commit of model.id, so that every replica serves the same weights." }}
{{- end }}
{{- if not $model.digest }}
{{- $wrong = append $wrong "model.digest is required where model.source is download: run `python -m services.encoder.fetch` with the id and the revision in the encoder's image once, and use the digest that it prints." }}
{{- end }}
{{- end }}

{{- if kindIs "invalid" $values.allowedBuckets }}
{{- $wrong = append $wrong "allowedBuckets is required: the buckets that callers may name, [] for only the bundled sample." }}
{{- end }}
{{- if not $values.textBanks.location }}
{{- $wrong = append $wrong "textBanks.location is required: the location of the text banks, s3://bucket/prefix/, volume or none." }}
{{- end }}
{{- range $bank, $texts := $values.textBanks.build }}
{{- $given := list }}
{{- range $key := list "baked" "configMap" "tags" }}{{ if index (default (dict) $texts) $key }}{{ $given = append $given $key }}{{ end }}{{ end }}
{{- if and $texts (ne (len $given) 1) }}
{{- $wrong = append $wrong (printf "textBanks.build.%s needs one of baked, configMap, or tags with descriptions." $bank) }}
{{- else if and $texts $texts.tags (not $texts.descriptions) }}
{{- $wrong = append $wrong (printf "textBanks.build.%s.descriptions is required together with tags." $bank) }}
{{- end }}
{{- end }}

{{- $tls := $values.tls }}
{{- if and $tls.enabled $tls.certManager.enabled (not $tls.certManager.issuerRef.name) }}
{{- $wrong = append $wrong "tls.certManager.issuerRef.name is required where tls.certManager.enabled is true: the issuer of the certificates, a CA that writes ca.crt." }}
{{- end }}
{{- if and $tls.enabled (not $tls.certManager.enabled) }}
{{- range $name := list "ingress" "encoder" "decoder" "client" }}
{{- if not (index $tls.existingSecrets $name) }}
{{- $wrong = append $wrong (printf "tls.existingSecrets.%s is required where tls.enabled is true and tls.certManager.enabled is false: a Secret with tls.crt, tls.key and ca.crt." $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- $authentication := $values.authentication }}
{{- if and $authentication.jwt.keysUrl (not (and $authentication.jwt.issuer $authentication.jwt.audience)) }}
{{- $wrong = append $wrong "authentication.jwt.issuer and authentication.jwt.audience are required together with authentication.jwt.keysUrl." }}
{{- end }}
{{- $known := or $authentication.tokens.existingSecret $authentication.jwt.keysUrl }}
{{- if and $authentication.policy (not (or $known $values.ingress.settings.caller_header)) }}
{{- $wrong = append $wrong "authentication.policy needs authentication.tokens, authentication.jwt or ingress.settings.caller_header, which name the callers." }}
{{- end }}

{{- $scaling := $values.autoscaling }}
{{- if and (eq $scaling.mode "prometheus") (not $scaling.prometheus.serverAddress) }}
{{- $wrong = append $wrong "autoscaling.prometheus.serverAddress is required where autoscaling.mode is prometheus." }}
{{- end }}
{{- if and (eq $scaling.mode "hpa") (not $scaling.hpa.metricName) }}
{{- $wrong = append $wrong "autoscaling.hpa.metricName is required where autoscaling.mode is hpa: the external metric with the queue depths, such as videoanalysis_queue_depth; files/prometheus-adapter.yaml has a rule that serves it. There is no fallback to CPU." }}
{{- end }}
{{- range $name := list "ingress" "encoder" "decoder" }}
{{- $limits := (index $values $name).autoscaling }}
{{- if lt (int $limits.maxReplicas) (int (max 1 $limits.minReplicas)) }}
{{- $wrong = append $wrong (printf "%s.autoscaling.maxReplicas is less than minReplicas." $name) }}
{{- end }}
{{- if and (eq $scaling.mode "hpa") (eq (int $limits.minReplicas) 0) }}
{{- $wrong = append $wrong (printf "%s.autoscaling.minReplicas must be 1 or more where autoscaling.mode is hpa; scaling to zero needs KEDA." $name) }}
{{- end }}
{{- end }}

{{- if eq (include "video-analysis.scaler" .) "ScaledObject" }}
{{- if not (or (.Capabilities.APIVersions.Has "keda.sh/v1alpha1/ScaledObject") (.Capabilities.APIVersions.Has "keda.sh/v1alpha1")) }}
{{- $wrong = append $wrong (printf "autoscaling.mode is %s, but the cluster does not have KEDA's ScaledObject: install KEDA 2.20.1 or newer first, or set autoscaling.mode to hpa or none. Where manifests are rendered without the cluster, pass --api-versions keda.sh/v1alpha1/ScaledObject." $scaling.mode) }}
{{- end }}
{{- end }}
{{- if and $scaling.prometheus.authModes (not $scaling.prometheus.authenticationRef.name) }}
{{- $wrong = append $wrong "autoscaling.prometheus.authenticationRef.name is required together with autoscaling.prometheus.authModes: the object with their parameters." }}
{{- end }}

{{- if not $values.resumeTokens.existingSecret }}
{{- if not (get (fromYaml (include "video-analysis.keptResumeKeys" .)) "known") }}
{{- $wrong = append $wrong "resumeTokens.existingSecret is required where manifests are rendered without the cluster (helm template, --dry-run=client, Argo CD): a key generated here would be another one at each rendering. Create it once: kubectl create secret generic video-resume-keys --from-literal=keys='[\"'$(openssl rand -hex 24)'\"]'." }}
{{- end }}
{{- end }}

{{- $urls := dict "s3.endpointUrl" $values.s3.endpointUrl "model.download.endpoint" $values.model.download.endpoint "authentication.jwt.keysUrl" $authentication.jwt.keysUrl "autoscaling.prometheus.serverAddress" $scaling.prometheus.serverAddress "tracing.endpoint" $values.tracing.endpoint }}
{{- range $key, $url := $urls }}
{{- $host := regexReplaceAll "^[a-z]+://([^/?#]*@)?" (default "" $url) "" | regexFind "^[^/?#]+" }}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" }}
{{- if and $port (or (gt (int $port) 65535) (lt (int $port) 1)) }}
{{- $wrong = append $wrong (printf "%s: the port must be 1 to 65535, not %s." $key $port) }}
{{- end }}
{{- $address := regexFind "^\\[.*\\]" $host | trimAll "[]" }}
{{- if and $address (not (regexMatch (printf "^(%s)$" (include "video-analysis.ipv6" .)) $address)) }}
{{- $wrong = append $wrong (printf "%s: %s is no IPv6 address." $key $address) }}
{{- end }}
{{- end }}

{{- range $name := list "ingress" "encoder" "decoder" }}
{{- $ports := dict "port" (index $values $name).port "ports.health" $values.ports.health "ports.metrics" $values.ports.metrics }}
{{- if eq $name "ingress" }}{{ $_ := set $ports "ports.scaling" $values.ports.scaling }}{{ end }}
{{- if lt (len (values $ports | uniq)) (len $ports) }}
{{- $given := list }}
{{- range $key, $port := $ports }}{{ $given = append $given (printf "%s %v" (eq $key "port" | ternary (printf "%s.port" $name) $key) $port) }}{{ end }}
{{- $wrong = append $wrong (printf "%s must differ: a pod of the %s opens each of them." (join ", " $given) $name) }}
{{- end }}
{{- end }}

{{- $labels := dict "commonLabels" $values.commonLabels "textBanks.job.podLabels" $values.textBanks.job.podLabels }}
{{- range $name := list "pods" "ingress" "encoder" "decoder" "test" }}{{ $_ := set $labels (printf "%s.podLabels" $name) (index $values $name).podLabels }}{{ end }}
{{- range $key, $given := $labels }}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" }}
{{- if hasKey (default (dict) $given) $label }}
{{- $wrong = append $wrong (printf "%s must not have %s: Services and Deployments select their pods by it. nameOverride changes the name." $key $label) }}
{{- end }}
{{- end }}
{{- end }}

{{- $kinds := dict "metrics.serviceMonitor" (list $values.metrics.serviceMonitor "monitoring.coreos.com/v1/ServiceMonitor") "grpcRoute" (list $values.grpcRoute "gateway.networking.k8s.io/v1/GRPCRoute") "tls.certManager" (list (dict "enabled" (and $tls.enabled $tls.certManager.enabled)) "cert-manager.io/v1/Certificate") }}
{{- range $key, $pair := $kinds }}
{{- if and (first $pair).enabled (not (or ($.Capabilities.APIVersions.Has (last $pair)) ($.Capabilities.APIVersions.Has (dir (last $pair))))) }}
{{- $wrong = append $wrong (printf "%s.enabled is true, but the cluster does not have %s. Where manifests are rendered without the cluster, pass --api-versions %s." $key (last $pair) (last $pair)) }}
{{- end }}
{{- end }}

{{- if and $values.metrics.podMonitor.enabled $values.metrics.serviceMonitor.enabled }}
{{- $wrong = append $wrong "metrics.podMonitor.enabled and metrics.serviceMonitor.enabled: enable only one of the two, otherwise every series is scraped twice." }}
{{- end }}
{{- if and $values.grpcRoute.enabled (not $values.grpcRoute.parentRefs) }}
{{- $wrong = append $wrong "grpcRoute.parentRefs is required where grpcRoute.enabled is true: the gateways to attach to." }}
{{- end }}

{{- if $wrong }}
{{- fail (printf "\n\n  %s\n" (join "\n  " $wrong)) }}
{{- end }}
{{- end }}

{{/* The pattern of an IPv6 address. */}}
{{- define "video-analysis.ipv6" -}}
{{- $part := "[0-9A-Fa-f]{1,4}" }}
{{- $forms := list (printf "(%s:){7}%s" $part $part) (printf "(%s:){1,7}:" $part) (printf ":((:%s){1,7}|:)" $part) }}
{{- range $after := list 1 2 3 4 5 6 }}
{{- $forms = append $forms (printf "(%s:){1,%d}(:%s){1,%d}" $part (sub 7 $after) $part $after) }}
{{- end -}}
{{ join "|" $forms }}
{{- end }}
