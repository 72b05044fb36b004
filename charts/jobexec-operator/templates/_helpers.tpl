{{/* The name of what is installed; a release may have dots in its name, a Service may not. The label app.kubernetes.io/name stays: `jobexec --store` finds the Pods by it. */}}
{{- define "jobexec.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The same, for what is not in the release's namespace: there may be a release of this name in another one. */}}
{{- define "jobexec.uniqueName" -}}
{{- printf "%s:%s" .Release.Namespace (include "jobexec.fullname" .) -}}
{{- end -}}

{{- define "jobexec.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "jobexec.labels" -}}
{{ include "jobexec.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "jobexec.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "jobexec.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The operator, as the subject of a binding. */}}
{{- define "jobexec.subject" -}}
- kind: ServiceAccount
  name: {{ include "jobexec.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{- define "jobexec.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The watched namespaces, as a JSON list; none where all are. */}}
{{- define "jobexec.namespaces" -}}
{{- if eq .Values.rbac.scope "Cluster" -}}
[]
{{- else -}}
{{- .Values.watchNamespaces | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the certificate of the API, if there is one. */}}
{{- define "jobexec.tlsSecretName" -}}
{{- if .Values.api.enabled -}}
{{- if eq .Values.api.tls.source "Secret" -}}
{{- .Values.api.tls.secretName -}}
{{- else if eq .Values.api.tls.source "CertManager" -}}
{{- printf "%s-tls" (include "jobexec.fullname" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of the Service that the certificate is made for, which is also what callers check. */}}
{{- define "jobexec.serviceHost" -}}
{{- printf "%s.%s.svc" (include "jobexec.fullname" .) .Release.Namespace -}}
{{- end -}}
